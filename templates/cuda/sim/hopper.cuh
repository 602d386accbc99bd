// What machine/hopper.cuh has for sm_90a, on a host.
#pragma once

#include "machine.cuh"

namespace soracc {

struct bf16;
struct f16;

DEVICE void mbarrier_init(uint32_t address, uint32_t arrivals) { sim_mbarrier_init(address, arrivals); }
DEVICE void mbarrier_init_fence() { sim_mbarrier_init_fence(); }
DEVICE void mbarrier_arrive(uint32_t address) { sim_mbarrier_arrive(address, 0); }
DEVICE void mbarrier_expect(uint32_t address, uint32_t bytes) { sim_mbarrier_arrive(address, bytes); }
DEVICE void mbarrier_wait(uint32_t address, uint32_t parity) { sim_mbarrier_wait(address, parity); }

DEVICE void tma_load_2d(uint32_t shared, const TensorMap* map, uint32_t mbarrier, int32_t c0, int32_t c1) {
  const int coordinates[] = {c0, c1};
  sim_tensor_load(shared, map, mbarrier, 2, coordinates);
}
DEVICE void tma_load_3d(uint32_t shared, const TensorMap* map, uint32_t mbarrier, int32_t c0, int32_t c1, int32_t c2) {
  const int coordinates[] = {c0, c1, c2};
  sim_tensor_load(shared, map, mbarrier, 3, coordinates);
}
DEVICE void tma_load_4d(uint32_t shared, const TensorMap* map, uint32_t mbarrier, int32_t c0, int32_t c1, int32_t c2, int32_t c3) {
  const int coordinates[] = {c0, c1, c2, c3};
  sim_tensor_load(shared, map, mbarrier, 4, coordinates);
}
DEVICE void tma_prefetch(const TensorMap* map) { sim_tensor_prefetch(map); }
DEVICE void fence_proxy_async() { sim_proxy_fence(); }

DEVICE uint64_t wgmma_descriptor(uint32_t shared, uint32_t leading_bytes, uint32_t stride_bytes, uint32_t swizzle_bytes) {
  const uint64_t mode = swizzle_bytes == 128 ? 1 : swizzle_bytes == 64 ? 2 : swizzle_bytes == 32 ? 3 : 0;
  return uint64_t(shared >> 4 & 0x3fff) | uint64_t(leading_bytes >> 4 & 0x3fff) << 16 | uint64_t(stride_bytes >> 4 & 0x3fff) << 32 | mode << 62;
}
DEVICE void wgmma_fence() { sim_wgmma_fence(); }
DEVICE void wgmma_commit() { sim_wgmma_commit(); }
template <int N>
DEVICE void wgmma_wait() {
  sim_wgmma_wait(N);
}
// Registers that products in flight use: of no concern to a host.
DEVICE void wgmma_hold(float&) {}
DEVICE void wgmma_hold(uint32_t&) {}
template <class T, int N>
DEVICE void wgmma_hold(T (&)[N]) {}
template <int N>
DEVICE void wgmma_forget(float (&)[N]) {}

template <class T>
constexpr int wgmma_type = -1;
template <>
constexpr int wgmma_type<bf16> = 0;
template <>
constexpr int wgmma_type<f16> = 1;

template <class T, int N, int TRANS_A, int TRANS_B>
DEVICE void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate, int line = __builtin_LINE()) {
  sim_wgmma(d, nullptr, a, b, N, wgmma_type<T>, TRANS_A, TRANS_B, accumulate, line);
}
template <class T, int N, int TRANS_B>
DEVICE void wgmma_registers(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate, int line = __builtin_LINE()) {
  sim_wgmma(d, a, 0, b, N, wgmma_type<T>, false, TRANS_B, accumulate, line);
}

template <int N>
DEVICE void set_more_registers(int line = __builtin_LINE()) {
  sim_set_registers(N, true, line);
}
template <int N>
DEVICE void set_fewer_registers(int line = __builtin_LINE()) {
  sim_set_registers(N, false, line);
}

}  // namespace soracc
