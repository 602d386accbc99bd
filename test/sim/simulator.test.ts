/** The simulator as a program: what it says about a compiler's complaint, and that it can be stopped. */
import { expect, test } from "vitest";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { floatsOf, runKernel } from "./run-kernel.ts";

const kindOf = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
    return "none";
  } catch (error) {
    return error instanceof Diagnostic ? `${error.parts.kind}: ${error.parts.details?.join(" ")}` : String(error);
  }
};

test("a kernel that never ends is stopped by its signal", async () => {
  const body = `while (arguments.a[0] == 0.0f) arguments.a[1] += 1.0f;`;
  const stop = new AbortController();
  const ending = kindOf(runKernel({ body, threads: 1, buffers: [[0, 0]] }, 0, stop.signal));
  setTimeout(() => stop.abort(), 500);
  expect(await ending).toMatch(/^cancelled/);
});

test("what does not compile is told with its line", async () => {
  const ending = await kindOf(runKernel({ body: "arguments.nowhere = 1;", threads: 32, buffers: [[0]] }));
  expect(ending).toMatch(/^compiler: kernel\.cu:5:\d+: error: .*nowhere/);
});

test("every schedule computes the same bits", async () => {
  const body = `
float* const slots = reinterpret_cast<float*>(shared_memory());
const float total = reduce_block<Sum, 128>(arguments.a[thread_index()] * 0.1f, slots);
arguments.b[thread_index()] = total;`;
  const values = Array.from({ length: 128 }, (_, i) => i * i);
  const results = new Set<string>();
  for (const seed of [0, 1, 2, 3, 4, 5]) {
    const buffers = [values, new Float32Array(128)];
    const [, b] = await runKernel({ body, threads: 128, sharedBytes: 16, buffers }, seed);
    results.add(floatsOf(b).join());
  }
  expect(results.size).toBe(1);
});
