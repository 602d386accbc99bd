/** The process that compiles kernels for another one: what the two say to each other, and the side that compiles. */
import { Diagnostic, type DiagnosticParts } from "../../../contract/diagnostic.ts";
import type { Arch } from "../../../contract/plan.ts";
import { loadKoffiFromModules, type LoadKoffi } from "../cpu/host.ts";
import { openNvrtc, Rejected, type Compiled, type Nvrtc } from "./nvrtc.ts";

/** What a worker is told: once how to compile, then one source at a time. */
export type Order =
  | { readonly kind: "setup"; readonly headers: Readonly<Record<string, string>>; readonly arch: Arch }
  | { readonly kind: "compile"; readonly source: string };

/** What it answers to each of them. */
export type Answer =
  | { readonly kind: "ready"; readonly version: string }
  | { readonly kind: "compiled"; readonly compiled: Compiled }
  | { readonly kind: "rejected"; readonly log: string }
  | { readonly kind: "failed"; readonly parts: DiagnosticParts }
  | { readonly kind: "bug"; readonly message: string };

/** Compiles until the process that started this one goes away or closes the channel. Never resolves. */
export async function serveCompilations(loadKoffi: LoadKoffi = loadKoffiFromModules): Promise<number> {
  // A terminal sends Ctrl-C to both processes. The other one decides what it means.
  process.on("SIGINT", () => undefined);
  // Nobody waits any more, and a compilation that is under way would still hold this process for as long as it likes.
  process.once("disconnect", () => process.kill(process.pid, "SIGKILL"));
  const send = (answer: Answer): void => {
    if (process.connected) process.send?.(answer, undefined, undefined, () => undefined); // whoever asked may be gone
  };
  let nvrtc: Nvrtc | undefined;
  let settings: Extract<Order, { kind: "setup" }> | undefined;
  process.on("message", (order: Order) => {
    void answerTo(order).then(send, (error: unknown) => send(explain(error)));
  });

  async function answerTo(order: Order): Promise<Answer> {
    if (order.kind === "setup") {
      settings = order;
      nvrtc = await openNvrtc(loadKoffi);
      return { kind: "ready", version: nvrtc.version };
    }
    if (nvrtc === undefined || settings === undefined) throw new Error("a source came before the settings");
    return { kind: "compiled", compiled: await nvrtc.compile({ ...settings, source: order.source }) };
  }

  return new Promise(() => undefined);
}

function explain(error: unknown): Answer {
  if (error instanceof Rejected) return { kind: "rejected", log: error.log };
  if (error instanceof Diagnostic) return { kind: "failed", parts: error.parts };
  return { kind: "bug", message: error instanceof Error ? error.message : String(error) };
}
