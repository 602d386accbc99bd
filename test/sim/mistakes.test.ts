/**
 * What kernels can do wrong, planted: each is found under every schedule, with the line where it happens, and the same
 * kernel put right passes.
 */
import { describe, expect, test } from "vitest";
import { mistakeOf, sourceOf, type Written } from "./run-kernel.ts";

const SEEDS = [0, 1, 2, 3, 4];

interface Planted {
  readonly what: string;
  readonly written: Omit<Written, "body">;
  /** The kernel; `@` marks what the wrong one lacks (up to the end of the line), `!` what it has instead. */
  readonly text: string;
  readonly message: RegExp;
  /** A piece of the line that the report must name. */
  readonly line?: string;
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const exchange = { threads: 64, sharedBytes: 256, buffers: [numbers(64), numbers(64)] };

const PLANTED: readonly Planted[] = [
  {
    what: "a missing barrier between a store and another thread's load",
    written: exchange,
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory());
slots[thread_index()] = arguments.a[thread_index()];
@sync_threads();
arguments.b[thread_index()] = slots[63 - thread_index()];`,
    message: /race: thread \d+ reads shared \+ \d+, which thread \d+ writes|nobody has written/,
    line: "slots[63",
  },
  {
    what: "a missing barrier between a load and another thread's next store",
    written: exchange,
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory());
slots[thread_index()] = arguments.a[thread_index()];
sync_threads();
const float other = slots[63 - thread_index()];
@sync_threads();
slots[thread_index()] = other;
arguments.b[thread_index()] = other;`,
    message: /race: thread \d+ (overwrites|reads) shared \+ \d+/,
    line: "slots[63",
  },
  {
    what: "a barrier of the warp where the whole block has to meet",
    written: exchange,
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory());
slots[thread_index()] = arguments.a[thread_index()];
@sync_threads();
!sync_warp();
arguments.b[thread_index()] = slots[63 - thread_index()];`,
    message: /race: thread|nobody has written/,
  },
  {
    what: "a load past the end of a buffer",
    written: { threads: 64, buffers: [numbers(60), numbers(64)] },
    text: `
@if (thread_index() < 60)
arguments.b[thread_index()] = arguments.a[thread_index()];`,
    message: /thread 60 reads 4 bytes outside of every buffer: a \+ 240 of 240 bytes/,
    line: "arguments.a[",
  },
  {
    what: "a store in front of a buffer",
    written: { threads: 32, buffers: [numbers(32)] },
    text: `
@if (thread_index() > 0)
arguments.a[thread_index() - 1] = 1.0f;`,
    message: /thread 0 writes 4 bytes outside of every buffer: a \+ -4 of 128 bytes/,
    line: "arguments.a[",
  },
  {
    what: "a store past the end of shared memory",
    written: { threads: 64, sharedBytes: 240, buffers: [numbers(64)] },
    text: `
@if (thread_index() < 60)
reinterpret_cast<float*>(shared_memory())[thread_index()] = 1.0f;`,
    message: /writes 4 bytes at shared \+ 240, outside of the block's 240 bytes/,
    line: "shared_memory())[",
  },
  {
    what: "shared memory that nobody has written",
    written: { threads: 32, sharedBytes: 256, buffers: [numbers(32)] },
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory());
slots[thread_index()] = 1.0f;
@slots[32 + thread_index()] = 1.0f;
arguments.a[thread_index()] = slots[thread_index() * 2 % 64 / 2 + 32];`,
    message: /reads shared \+ 128, which nobody has written/,
    line: "* 2 % 64",
  },
  {
    what: "a missing wait for an asynchronous copy",
    written: { threads: 32, sharedBytes: 512, buffers: [numbers(128), numbers(128)] },
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory()) + 4 * thread_index();
copy_async_16(shared_address(slots), arguments.a + 4 * thread_index(), 16);
copy_async_commit();
@copy_async_wait<0>();
arguments.b[4 * thread_index()] = slots[0];`,
    message: /reads shared \+ \d+, where a copy of thread \d+ has not landed: its wait is missing/,
    line: "slots[0]",
  },
  {
    what: "a wait that leaves one group too many in flight",
    written: { threads: 32, sharedBytes: 512, buffers: [numbers(128), numbers(128)] },
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory()) + 4 * thread_index();
copy_async_16(shared_address(slots), arguments.a + 4 * thread_index(), 16);
copy_async_commit();
@copy_async_wait<0>();
!copy_async_wait<1>();
arguments.b[4 * thread_index()] = slots[0];`,
    message: /has not landed: its wait is missing/,
  },
  {
    what: "a wait without the barrier that makes the copies of others visible",
    written: { threads: 64, sharedBytes: 1024, buffers: [numbers(256), numbers(64)] },
    text: `
float* const slots = reinterpret_cast<float*>(shared_memory());
copy_async_16(shared_address(slots + 4 * thread_index()), arguments.a + 4 * thread_index(), 16);
copy_async_commit();
copy_async_wait<0>();
@sync_threads();
arguments.b[thread_index()] = slots[4 * (63 - thread_index())];`,
    message: /race|has not landed|nobody has written/,
  },
  {
    what: "a barrier that half of the block never reaches",
    written: { threads: 64, buffers: [numbers(64)] },
    text: `
!if (thread_index() < 32)
sync_threads();
arguments.a[thread_index()] = 1.0f;`,
    message:
      /deadlock: no thread of the block can go on[\s\S]*32 threads, the first of them 0, wait for sync_threads in line \d+[\s\S]*32 threads have returned/,
  },
  {
    what: "a named barrier for more threads than come",
    written: { threads: 64, buffers: [numbers(64)] },
    text: `
@sync_named(1, 64);
!sync_named(1, 96);
arguments.a[thread_index()] = 1.0f;`,
    message: /deadlock[\s\S]*64 threads, the first of them 0, wait for barrier 1 of 96 threads in line \d+/,
  },
  {
    what: "an mbarrier that nobody completes",
    written: { threads: 32, sharedBytes: 64, includes: ["hopper.cuh"], buffers: [numbers(32)] },
    text: `
const uint32_t barrier = shared_address(shared_memory());
if (thread_index() == 0) mbarrier_init(barrier, 1);
sync_threads();
@if (thread_index() == 0) mbarrier_arrive(barrier);
mbarrier_wait(barrier, 0);
arguments.a[thread_index()] = 1.0f;`,
    message:
      /deadlock[\s\S]*32 threads, the first of them 0, wait for the mbarrier at shared \+ 0, parity 0, 1 arrivals and 0 bytes missing/,
  },
  {
    what: "a tensor copy that is read before its mbarrier completes",
    written: {
      ...{ threads: 32, sharedBytes: 4096, includes: ["hopper.cuh"], buffers: [numbers(256), numbers(32)] },
      map: { dtype: "f32", sizes: [16, 16], strides: [64], box: [16, 8], swizzle: 0 },
    },
    text: `
const uint32_t barrier = shared_address(shared_memory() + 2048);
if (thread_index() == 0) mbarrier_init(barrier, 1);
sync_threads();
if (thread_index() == 0) {
mbarrier_expect(barrier, 512);
tma_load_2d(shared_address(shared_memory()), &arguments.map, barrier, 0, 4);
}
@mbarrier_wait(barrier, 0);
arguments.b[thread_index()] = reinterpret_cast<float*>(shared_memory())[thread_index()];`,
    message: /where a copy of a tensor copy has not landed|nobody has written|race/,
    line: "shared_memory())[",
  },
  {
    what: "a matrix for wgmma with no fence between the two proxies",
    written: { threads: 128, sharedBytes: 4096, includes: ["hopper.cuh"], buffers: [numbers(1024)] },
    text: `
uint8_t* const memory = shared_memory();
for (int i = thread_index(); i < 1280; i += 128) reinterpret_cast<bf16*>(memory)[i] = 1.0f;
@fence_proxy_async();
sync_threads();
float d[4];
wgmma_fence();
wgmma<bf16, 8, 0, 0>(d, wgmma_descriptor(shared_address(memory), 128, 256, 0), wgmma_descriptor(shared_address(memory + 2048), 128, 256, 0), false);
wgmma_commit();
wgmma_wait<0>();
arguments.a[thread_index()] = d[0];`,
    message: /which thread \d+ has written with no fence_proxy_async since/,
  },
  {
    what: "memory of a wgmma overwritten before the product is awaited",
    written: { threads: 128, sharedBytes: 4096, includes: ["hopper.cuh"], buffers: [numbers(1024)] },
    text: `
uint8_t* const memory = shared_memory();
for (int i = thread_index(); i < 1280; i += 128) reinterpret_cast<bf16*>(memory)[i] = 1.0f;
fence_proxy_async();
sync_threads();
float d[4];
wgmma_fence();
wgmma<bf16, 8, 0, 0>(d, wgmma_descriptor(shared_address(memory), 128, 256, 0), wgmma_descriptor(shared_address(memory + 2048), 128, 256, 0), false);
wgmma_commit();
@wgmma_wait<0>();
@sync_threads();
if (thread_index() == 0) reinterpret_cast<bf16*>(memory)[0] = 2.0f;
!wgmma_wait<0>();
arguments.a[thread_index()] = d[0];`,
    message: /overwrites shared \+ 0 while a wgmma reads it|race/,
  },
  {
    what: "ldmatrix from a row that is not aligned",
    written: { threads: 32, sharedBytes: 1024, buffers: [numbers(32)] },
    text: `
uint8_t* const memory = shared_memory();
for (int i = 0; i < 8; ++i) reinterpret_cast<float*>(memory)[i * 32 + thread_index()] = 1.0f;
sync_warp();
uint32_t d[2];
@ldmatrix_x2(d, shared_address(memory + 16 * (thread_index() % 16)));
!ldmatrix_x2(d, shared_address(memory + 8 * (thread_index() % 16)));
arguments.a[thread_index()] = d[0];`,
    message: /ldmatrix reads a row at shared \+ 8, no multiple of 16/,
  },
];

const versionOf = (text: string, wrong: boolean): string =>
  text
    .split("\n")
    .filter((line) => !line.startsWith(wrong ? "@" : "!"))
    .map((line) => line.replace(/^[@!]/, ""))
    .join("\n");

describe.each(PLANTED)("$what", ({ written, text, message, line }) => {
  test("is found under every schedule", async () => {
    const wrong: Written = { ...written, body: versionOf(text, true) };
    const lines = sourceOf(wrong).split("\n");
    for (const seed of SEEDS) {
      const told = await mistakeOf(wrong, seed);
      expect(told).toMatch(message);
      if (line === undefined) continue;
      const number = lines.findIndex((each) => each.includes(line)) + 1;
      expect(told).toContain(`kernel.cu:${number}`);
    }
  });

  test("is not found where it is not", async () => {
    for (const seed of SEEDS)
      expect(await mistakeOf({ ...written, body: versionOf(text, false) }, seed)).toBeUndefined();
  });
});
