/** What kernels for Hopper can do wrong: mbarriers, copies of boxes, proxies, products of warpgroups, registers. */
import { halves, integers } from "./numbers.ts";
import { PIPELINE } from "./pipeline.ts";
import { findAll, numbers, type Planted } from "./planted.ts";
import type { TensorMapOf, Written } from "./run-kernel.ts";

const BOXES: readonly TensorMapOf[] = [
  { buffer: 0, dtype: "f32", sizes: [16, 16], strides: [64], box: [16, 8], swizzle: 0 },
];

/** An mbarrier for one arrival, which everybody and every copy may use. */
const INIT = `
const uint32_t barrier = shared_address(shared_memory() + 2048);
if (thread_index() == 0) {
mbarrier_init(barrier, 1);
mbarrier_init_fence();
}
sync_threads();`;

/** Both sides of a product, filled with ones. */
const ONES = `
uint8_t* const memory = shared_memory();
for (int i = thread_index(); i < 2048; i += 128) reinterpret_cast<bf16*>(memory)[i] = 1.0f;
fence_proxy_async();
sync_threads();
float d[4] = { 0.0f, 0.0f, 0.0f, 0.0f };`;
const MULTIPLY =
  "wgmma<bf16, 8, 0, 0>(d, wgmma_descriptor(shared_address(memory), 128, 256, 0), " +
  "wgmma_descriptor(shared_address(memory + 2048), 128, 256, 0), true);";
const SQUARE: Omit<Written, "body"> = {
  ...{ threads: 128, sharedBytes: 4096, includes: ["hopper.cuh"], buffers: [numbers(1024)] },
};

const PIPED: Omit<Written, "body"> = {
  ...{ threads: 256, sharedBytes: 16416, includes: ["hopper.cuh"] },
  maps: [{ buffer: 0, dtype: "bf16", sizes: [64, 320], strides: [128], box: [64, 64], swizzle: 128 }],
  buffers: [halves("bf16", integers(64 * 320, 3)), new Float32Array(64 * 64)],
};

const PLANTED: readonly Planted[] = [
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
      /deadlock[\s\S]*32 threads, the first of them 0, wait for the mbarrier at shared \+ 0, parity 0, 1 arrivals and 0 bytes missing: kernel.cu:\d+/,
    line: "mbarrier_wait(barrier, 0)",
  },
  {
    what: "a tensor copy that is read before its mbarrier completes",
    written: {
      ...{ threads: 32, sharedBytes: 4096, includes: ["hopper.cuh"], buffers: [numbers(256), numbers(32)] },
      maps: [{ buffer: 0, dtype: "f32", sizes: [16, 16], strides: [64], box: [16, 8], swizzle: 0 }],
    },
    text: `
const uint32_t barrier = shared_address(shared_memory() + 2048);
if (thread_index() == 0) {
mbarrier_init(barrier, 1);
mbarrier_init_fence();
}
sync_threads();
if (thread_index() == 0) {
mbarrier_expect(barrier, 512);
tma_load_2d(shared_address(shared_memory()), &arguments.map0, barrier, 0, 4);
}
@mbarrier_wait(barrier, 0);
arguments.b[thread_index()] = reinterpret_cast<float*>(shared_memory())[thread_index()];`,
    message:
      /nobody has written|where a tensor copy has not landed|race: thread \d+ reads shared \+ \d+, which a tensor copy writes, with no wait between them/,
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
    message: /race: thread 0 overwrites shared \+ 0, which a wgmma of warp 0 reads, with no wait between them/,
    line: "= 2.0f",
  },
  {
    what: "an mbarrier that is used before the block has met",
    written: { threads: 64, sharedBytes: 64, includes: ["hopper.cuh"], buffers: [numbers(64)] },
    text: `
const uint32_t barrier = shared_address(shared_memory());
if (thread_index() == 0) mbarrier_init(barrier, 64);
@sync_threads();
mbarrier_arrive(barrier);
mbarrier_wait(barrier, 0);`,
    message:
      /there is no mbarrier at shared \+ 0|thread \d+ uses the mbarrier at shared \+ 0, which thread 0 initialises, with no barrier between them/,
    line: "mbarrier_arrive(barrier)",
  },
  {
    what: "an mbarrier given to a copy without its fence",
    written: {
      ...{
        threads: 32,
        sharedBytes: 4096,
        includes: ["hopper.cuh"],
        buffers: [numbers(256), numbers(32)],
        maps: BOXES,
      },
    },
    text: `
const uint32_t barrier = shared_address(shared_memory() + 2048);
if (thread_index() == 0) {
mbarrier_init(barrier, 1);
@mbarrier_init_fence();
mbarrier_expect(barrier, 512);
tma_load_2d(shared_address(shared_memory()), &arguments.map0, barrier, 0, 4);
}
sync_threads();
mbarrier_wait(barrier, 0);`,
    message: /a tensor copy reports to the mbarrier at shared \+ 2048, which no mbarrier_init_fence follows/,
    line: "tma_load_2d",
  },
  {
    what: "more arrivals than an mbarrier expects",
    written: { threads: 64, sharedBytes: 64, includes: ["hopper.cuh"], buffers: [numbers(64)] },
    text: `
const uint32_t barrier = shared_address(shared_memory());
@if (thread_index() == 0) mbarrier_init(barrier, 65);
!if (thread_index() == 0) mbarrier_init(barrier, 63);
sync_threads();
if (thread_index() == 0) mbarrier_expect(barrier, 16);
mbarrier_arrive(barrier);`,
    message: /thread \d+ is one more than the 63 arrivals that the mbarrier at shared \+ 0 expects/,
  },
  {
    what: "a barrier for fewer bytes than are copied",
    written: {
      ...{
        threads: 32,
        sharedBytes: 4096,
        includes: ["hopper.cuh"],
        buffers: [numbers(256), numbers(32)],
        maps: BOXES,
      },
    },
    text: `${INIT}
@if (thread_index() == 0) mbarrier_expect(barrier, 512);
!if (thread_index() == 0) mbarrier_expect(barrier, 1024);
if (thread_index() == 0) tma_load_2d(shared_address(shared_memory()), &arguments.map0, barrier, 0, 4);
mbarrier_wait(barrier, 0);`,
    message:
      /deadlock[\s\S]*32 threads, the first of them 0, wait for the mbarrier at shared \+ 2048, parity 0, 0 arrivals and 512 bytes missing/,
    line: "mbarrier_wait(barrier, 0)",
  },
  {
    what: "a block that is over before its copies",
    written: {
      ...{
        threads: 32,
        sharedBytes: 4096,
        includes: ["hopper.cuh"],
        buffers: [numbers(256), numbers(32)],
        maps: BOXES,
      },
    },
    text: `${INIT}
if (thread_index() == 0) {
mbarrier_expect(barrier, 512);
tma_load_2d(shared_address(shared_memory()), &arguments.map0, barrier, 0, 4);
@mbarrier_wait(barrier, 0);
}`,
    message: /a block is over while a tensor copy of it is under way/,
    line: "tma_load_2d",
  },
  {
    what: "a copy over what was stored with no fence since",
    written: {
      ...{
        threads: 32,
        sharedBytes: 4096,
        includes: ["hopper.cuh"],
        buffers: [numbers(256), numbers(32)],
        maps: BOXES,
      },
    },
    text: `${INIT}
reinterpret_cast<float*>(shared_memory())[thread_index()] = 1.0f;
@fence_proxy_async();
sync_warp();
if (thread_index() == 0) {
mbarrier_expect(barrier, 512);
tma_load_2d(shared_address(shared_memory()), &arguments.map0, barrier, 0, 4);
}
mbarrier_wait(barrier, 0);`,
    message: /a tensor copy overwrites shared \+ \d+, which thread \d+ has written with no fence_proxy_async since/,
    line: "tma_load_2d",
  },
  {
    what: "a copy to a place that is not aligned",
    written: {
      ...{
        threads: 32,
        sharedBytes: 4096,
        includes: ["hopper.cuh"],
        buffers: [numbers(256), numbers(32)],
        maps: BOXES,
      },
    },
    text: `${INIT}
if (thread_index() == 0) {
mbarrier_expect(barrier, 512);
@tma_load_2d(shared_address(shared_memory() + 128), &arguments.map0, barrier, 0, 4);
!tma_load_2d(shared_address(shared_memory() + 64), &arguments.map0, barrier, 0, 4);
}
mbarrier_wait(barrier, 0);`,
    message: /thread 0 copies a box at shared \+ 64, no multiple of 128/,
    line: "tma_load_2d",
  },
  {
    what: "a copy from a place that is not aligned",
    written: {
      ...{
        threads: 32,
        sharedBytes: 4096,
        includes: ["hopper.cuh"],
        buffers: [numbers(256), numbers(32)],
        maps: BOXES,
      },
    },
    text: `${INIT}
if (thread_index() == 0) {
mbarrier_expect(barrier, 512);
@tma_load_2d(shared_address(shared_memory()), &arguments.map0, barrier, -4, 4);
!tma_load_2d(shared_address(shared_memory()), &arguments.map0, barrier, -3, 4);
}
mbarrier_wait(barrier, 0);`,
    message: /a tensor copy begins at element -3 of 4 bytes, no multiple of 16 bytes/,
    line: "tma_load_2d",
  },
  {
    what: "sums that are read before the product is awaited",
    written: SQUARE,
    text: `${ONES}
wgmma_fence();
${MULTIPLY}
wgmma_commit();
!arguments.a[thread_index()] = d[0];
wgmma_wait<0>();
arguments.a[thread_index()] = d[0];`,
    message: /thread \d+ uses sums of a wgmma that is not awaited/,
    line: "arguments.a[thread_index()] = d[0]",
  },
  {
    what: "a product before any wgmma_fence",
    written: SQUARE,
    text: `${ONES}
@wgmma_fence();
${MULTIPLY}
wgmma_commit();
wgmma_wait<0>();
arguments.a[thread_index()] = d[0];`,
    message: /thread \d+ gives a wgmma registers that were used otherwise, with no wgmma_fence since/,
    line: "wgmma<bf16",
  },
  {
    what: "sums that change between two products with no wgmma_fence",
    written: SQUARE,
    text: `${ONES}
for (int turn = 0; turn < 2; ++turn) {
@wgmma_fence();
!if (turn == 0) wgmma_fence();
${MULTIPLY}
wgmma_commit();
wgmma_wait<0>();
d[0] += 1.0f;
}
arguments.a[thread_index()] = d[0];`,
    message: /thread \d+ gives a wgmma registers that were used otherwise, with no wgmma_fence since/,
    line: "wgmma<bf16",
  },
  {
    what: "a product that one warp of four leaves out",
    written: SQUARE,
    text: `${ONES}
wgmma_fence();
!if (warp_index() != 3)
${MULTIPLY}
wgmma_commit();
wgmma_wait<0>();
arguments.a[thread_index()] = d[0];`,
    message: /a wgmma is begun by some warps of a warpgroup only[\s\S]*warp 3 does not come here/,
    line: "wgmma<bf16",
  },
  {
    what: "a descriptor that does not begin in the first row of a pattern",
    written: SQUARE,
    text: `${ONES}
wgmma_fence();
@${MULTIPLY}
!wgmma<bf16, 8, 0, 0>(d, wgmma_descriptor(shared_address(memory), 128, 256, 0), wgmma_descriptor(shared_address(memory + 128), 16, 1024, 128), false);
wgmma_commit();
wgmma_wait<0>();
arguments.a[thread_index()] = d[0];`,
    message: /a wgmma descriptor begins at shared \+ 128, not in the first row of a pattern of 1024 bytes/,
    line: "wgmma<bf16",
  },
  {
    what: "more registers than there are",
    written: { threads: 384, includes: ["hopper.cuh"], buffers: [numbers(384)] },
    text: `
@if (warp_index() < 4) set_fewer_registers<24>();
!if (warp_index() < 4) set_fewer_registers<40>();
else set_more_registers<240>();
arguments.a[thread_index()] = 1.0f;`,
    message: /deadlock[\s\S]*wait for 240 registers for each of its threads; the block has \d+ left/,
    line: "set_more_registers",
  },
  {
    what: "a place that is given back before its product is awaited",
    written: PIPED,
    text: PIPELINE(5, { wait: "@wgmma_wait<0>();" }),
    message: /race: a tensor copy overwrites shared \+ \d+, which a wgmma of warp \d reads, with no wait between them/,
    line: "tma_load_2d",
  },
  {
    what: "a place that is given back by one warp for all",
    written: PIPED,
    text: PIPELINE(5, {
      release: `@sync_warp();
@if (lane_index() == 0) mbarrier_arrive(empty + 8 * place);
!if (thread_index() == 0) for (int i = 0; i < 4; ++i) mbarrier_arrive(empty + 8 * place);`,
    }),
    // Copies overtake the other warps, which then miss the phase that they wait for.
    message: /race: a tensor copy overwrites shared \+ \d+, which a wgmma of warp \d reads, with no wait|deadlock/,
  },
];

findAll(PLANTED);
