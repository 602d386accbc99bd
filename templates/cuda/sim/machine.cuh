// The machine under a kernel, on a host: the functions of machine/machine.cuh, carried out by the simulator (see
// executor.cpp). Kernels are the same text for both.
#pragma once

#include "calls.hpp"

typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;

#define INT32_MAX 2147483647
#define INT32_MIN (-2147483647 - 1)
#define UINT32_MAX 4294967295u

#define __device__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __restrict__ __restrict
#define __forceinline__ inline __attribute__((always_inline))

#define DEVICE static __device__ __forceinline__

// What NVRTC declares by itself and __builtin_ names do not cover.
extern "C" {
float fabsf(float) noexcept;
float fmaf(float, float, float) noexcept;
float fminf(float, float) noexcept;
float fmaxf(float, float) noexcept;
float sqrtf(float) noexcept;
float expf(float) noexcept;
float exp2f(float) noexcept;
float logf(float) noexcept;
float log2f(float) noexcept;
double fabs(double) noexcept;
double fma(double, double, double) noexcept;
double fmin(double, double) noexcept;
double fmax(double, double) noexcept;
double sqrt(double) noexcept;
double exp(double) noexcept;
double log(double) noexcept;
}

namespace soracc {

// Places in the grid, of which only x is used: values that ask who runs.
template <unsigned (*ASK)()>
struct SimPlace {
  struct {
    inline __attribute__((always_inline)) operator unsigned() const { return ASK(); }
  } x;
};

// What the driver makes of a description of a matrix in memory, for copies by the tensor memory accelerator.
struct alignas(64) TensorMap {
  uint64_t words[16];
};

template <class To, class From>
DEVICE To sim_bits(From from) {
  static_assert(sizeof(To) >= sizeof(From), "every bit has a place");
  To to = To();
  __builtin_memcpy(&to, &from, sizeof from);
  return to;
}

}  // namespace soracc

static constexpr soracc::SimPlace<sim_thread_index> threadIdx = {};
static constexpr soracc::SimPlace<sim_block_index> blockIdx = {};
static constexpr soracc::SimPlace<sim_block_threads> blockDim = {};
static constexpr soracc::SimPlace<sim_grid_blocks> gridDim = {};

DEVICE uint32_t __float_as_uint(float value) { return soracc::sim_bits<uint32_t>(value); }
DEVICE int32_t __float_as_int(float value) { return soracc::sim_bits<int32_t>(value); }
DEVICE float __uint_as_float(uint32_t bits) { return soracc::sim_bits<float>(bits); }
DEVICE float __int_as_float(int32_t bits) { return soracc::sim_bits<float>(bits); }
DEVICE int64_t __double_as_longlong(double value) { return soracc::sim_bits<int64_t>(value); }
DEVICE double __longlong_as_double(int64_t bits) { return soracc::sim_bits<double>(bits); }
DEVICE int32_t __popc(uint32_t bits) { return __builtin_popcount(bits); }
DEVICE int32_t __ffs(int32_t bits) { return __builtin_ffs(bits); }
DEVICE int32_t __clz(int32_t bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<uint32_t>(bits)); }

namespace soracc {

// --- shared memory --------------------------------------------------------------------------------------------------

DEVICE uint8_t* shared_memory() { return sim_shared_memory(); }
DEVICE uint32_t shared_address(const void* pointer) { return sim_shared_address(pointer); }

// --- barriers -------------------------------------------------------------------------------------------------------

DEVICE void sync_threads(int line = __builtin_LINE()) { sim_sync_threads(line); }
DEVICE void sync_warp(int line = __builtin_LINE()) { sim_sync_warp(line); }
DEVICE void sync_named(uint32_t barrier, uint32_t threads, int line = __builtin_LINE()) {
  sim_sync_named(barrier, threads, line);
}
DEVICE void arrive_named(uint32_t barrier, uint32_t threads, int line = __builtin_LINE()) {
  sim_arrive_named(barrier, threads, line);
}

// --- within a warp --------------------------------------------------------------------------------------------------

template <class T>
DEVICE T shuffle(T value, uint32_t lane, int line = __builtin_LINE()) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves one or two registers");
  const uint64_t bits = sim_shuffle(sim_bits<uint64_t>(value), lane, line);
  T result;
  __builtin_memcpy(&result, &bits, sizeof result);
  return result;
}
template <class T>
DEVICE T shuffle_xor(T value, uint32_t mask, int line = __builtin_LINE()) {
  return shuffle(value, sim_thread_index() % 32 ^ mask, line);
}
DEVICE uint32_t ballot(bool predicate, int line = __builtin_LINE()) { return sim_ballot(predicate, line); }

// --- matrices of 8 rows of 16 bytes ---------------------------------------------------------------------------------

DEVICE void ldmatrix_x4(uint32_t (&d)[4], uint32_t address, int line = __builtin_LINE()) {
  sim_ldmatrix(d, address, 4, false, line);
}
DEVICE void ldmatrix_x2(uint32_t (&d)[2], uint32_t address, int line = __builtin_LINE()) {
  sim_ldmatrix(d, address, 2, false, line);
}
DEVICE void ldmatrix_x4_trans(uint32_t (&d)[4], uint32_t address, int line = __builtin_LINE()) {
  sim_ldmatrix(d, address, 4, true, line);
}
DEVICE void ldmatrix_x2_trans(uint32_t (&d)[2], uint32_t address, int line = __builtin_LINE()) {
  sim_ldmatrix(d, address, 2, true, line);
}

DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int line = __builtin_LINE()) {
  sim_mma(d, a, b, 0, line);
}
DEVICE void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int line = __builtin_LINE()) {
  sim_mma(d, a, b, 1, line);
}
DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int line = __builtin_LINE()) {
  sim_mma(d, a, b, 2, line);
}

// --- conversions ----------------------------------------------------------------------------------------------------

// Every NaN becomes one NaN: that of packing is the instruction's own, which NaN tf32 has differs between GPUs.
DEVICE uint32_t to_tf32(float value) {
  const uint32_t bits = __float_as_uint(value), magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fffffffu;
  return magnitude == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
}
DEVICE uint32_t sim_bf16(float value) {
  const uint32_t bits = __float_as_uint(value);
  return (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}
DEVICE uint32_t sim_f16(float value) {
  const uint32_t bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fffu;
  if (magnitude >= 0x47800000u) return sign | 0x7c00u;
  // Adding a half lines the bits of a subnormal up with the end of a float's fraction, rounded.
  if (magnitude < 0x38800000u) return sign | (__float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u);
  return sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
}
DEVICE uint32_t pack_bf16(float low, float high) { return sim_bf16(low) | sim_bf16(high) << 16; }
DEVICE uint32_t pack_f16(float low, float high) { return sim_f16(low) | sim_f16(high) << 16; }
DEVICE float unpack_f16(uint32_t pair) {
  const uint32_t magnitude = (pair & 0x7fffu) << 13, sign = (pair & 0x8000u) << 16;
  if (magnitude >= 0x0f800000u) return __uint_as_float(sign | magnitude | 0x70000000u);
  return __uint_as_float(sign | __float_as_uint(__uint_as_float(magnitude) * 0x1p112f));
}

// --- copies into shared memory that run while the kernel goes on ----------------------------------------------------

DEVICE void copy_async_16(uint32_t shared, const void* global, uint32_t bytes) { sim_copy_async(shared, global, 16, bytes); }
DEVICE void copy_async_4(uint32_t shared, const void* global, uint32_t bytes) { sim_copy_async(shared, global, 4, bytes); }
DEVICE void copy_async_commit() { sim_copy_async_commit(); }
template <int N>
DEVICE void copy_async_wait() {
  sim_copy_async_wait(N);
}

// --- approximations of the special function unit --------------------------------------------------------------------

// Subnormals count as zero, going in and coming out.
DEVICE float sim_flushed(float x) { return fabsf(x) < 0x1p-126f ? __builtin_copysignf(0.0f, x) : x; }
DEVICE float exp2_approx(float x) { return sim_flushed(exp2f(sim_flushed(x))); }
DEVICE float log2_approx(float x) { return sim_flushed(log2f(sim_flushed(x))); }
DEVICE float reciprocal_approx(float x) { return sim_flushed(1.0f / sim_flushed(x)); }
DEVICE float rsqrt_approx(float x) { return sim_flushed(1.0f / sqrtf(sim_flushed(x))); }

}  // namespace soracc
