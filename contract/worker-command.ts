/**
 * A command of `soracc` and of training binaries that no user types: it compiles kernels with NVRTC for the process that
 * started it, over the channel between the two. A process of its own, because a compiler that crashes takes its process
 * along; the same script, because a training binary is one file.
 */
const WORKER_COMMAND = "compile-kernels";

/** The arguments that start a worker. */
export const WORKER_COMMAND_LINE: readonly string[] = [WORKER_COMMAND];

/** Whether this process was started as a worker. */
export const isWorker = (commandLine: readonly string[]): boolean =>
  commandLine.length === 1 && commandLine[0] === WORKER_COMMAND && process.send !== undefined;
