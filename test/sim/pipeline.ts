/**
 * A kernel for Hopper at work: one thread copies boxes of 64 x 64 into two places in turn, a warpgroup multiplies each by
 * itself and adds the products up. `map0` is over `a`; 256 threads, 16,416 bytes of shared memory; sums go to `b`.
 */
export const PIPELINE = (
  steps: number,
  changes: { readonly wait?: string; readonly release?: string } = {},
): string => `
uint8_t* const memory = shared_memory();
const uint32_t base = shared_address(memory), full = base + 16384, empty = base + 16400;
if (thread_index() == 0) {
for (int place = 0; place < 2; ++place) {
mbarrier_init(full + 8 * place, 1);
mbarrier_init(empty + 8 * place, 4);
}
mbarrier_init_fence();
}
sync_threads();
if (warp_index() >= 4) {
set_fewer_registers<24>();
if (thread_index() == 128) {
for (int step = 0; step < ${steps}; ++step) {
const int place = step % 2, round = step / 2;
mbarrier_wait(empty + 8 * place, (round & 1) ^ 1);
mbarrier_expect(full + 8 * place, 8192);
tma_load_2d(base + 8192 * place, &arguments.map0, full + 8 * place, 0, 64 * step);
}
}
} else {
set_more_registers<240>();
float d[32];
for (int i = 0; i < 32; ++i) d[i] = 0.0f;
for (int step = 0; step < ${steps}; ++step) {
const int place = step % 2, round = step / 2;
mbarrier_wait(full + 8 * place, round & 1);
wgmma_fence();
for (int k = 0; k < 4; ++k) {
const uint64_t side = wgmma_descriptor(base + 8192 * place + 32 * k, 16, 1024, 128);
wgmma<bf16, 64, 0, 0>(d, side, side, true);
}
wgmma_commit();
${changes.wait ?? "wgmma_wait<0>();"}
${changes.release ?? "sync_warp();\nif (lane_index() == 0) mbarrier_arrive(empty + 8 * place);"}
}
wgmma_wait<0>();
for (int i = 0; i < 32; ++i) {
const int row = warp_index() * 16 + i / 2 % 2 * 8 + lane_index() / 4, column = i / 4 * 8 + lane_index() % 4 * 2 + i % 2;
arguments.b[row * 64 + column] = d[i];
}
}`;
