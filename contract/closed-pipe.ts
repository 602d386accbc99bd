/** `dit info | head`: whoever reads our output may stop before its end, and that is no mistake of anybody. */
export function tolerateClosedPipes(): void {
  for (const stream of [process.stdout, process.stderr]) {
    if (!stream.listeners("error").includes(tolerate)) stream.on("error", tolerate);
  }
}

function tolerate(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") throw error;
}
