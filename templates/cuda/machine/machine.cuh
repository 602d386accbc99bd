// The machine under a kernel: one function per instruction, and the only place with inline PTX. `sim/machine.cuh` has the
// same functions for a host, which is how every kernel runs without a GPU. Needs no header of a toolkit.
//
// Addresses of shared memory are 32-bit offsets into the shared window, as the instructions take them.
#pragma once

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

#define DEVICE static __device__ __forceinline__

// The builtins that templates/prelude is written with, in the names that NVRTC declares.
#define __builtin_memcpy(to, from, bytes) memcpy(to, from, bytes)
#define __builtin_inff() __int_as_float(0x7f800000)
#define __builtin_inf() __longlong_as_double(0x7ff0000000000000)
#define __builtin_nanf(kind) __int_as_float(0x7fc00000)
#define __builtin_nan(kind) __longlong_as_double(0x7ff8000000000000)
#define __builtin_fabsf(x) ::fabsf(x)
#define __builtin_fabs(x) ::fabs(x)
#define __builtin_fmaxf(x, y) ::fmaxf(x, y)
#define __builtin_fmaf(x, y, z) ::fmaf(x, y, z)
#define __builtin_floorf(x) ::floorf(x)
#define __builtin_floor(x) ::floor(x)
#define __builtin_ceilf(x) ::ceilf(x)
#define __builtin_ceil(x) ::ceil(x)
#define __builtin_rintf(x) ::rintf(x)
#define __builtin_rint(x) ::rint(x)
#define __builtin_sqrtf(x) ::sqrtf(x)
#define __builtin_sqrt(x) ::sqrt(x)
#define __builtin_copysignf(x, y) ::copysignf(x, y)
#define __builtin_signbit(x) ((__float_as_uint(x) >> 31) != 0u)
#define __builtin_expf(x) ::expf(x)
#define __builtin_exp2f(x) ::exp2f(x)
#define __builtin_logf(x) ::logf(x)
#define __builtin_log1pf(x) ::log1pf(x)
#define __builtin_tanhf(x) ::tanhf(x)
#define __builtin_exp(x) ::exp(x)
#define __builtin_exp2(x) ::exp2(x)
#define __builtin_log(x) ::log(x)
#define __builtin_log1p(x) ::log1p(x)
#define __builtin_tanh(x) ::tanh(x)
#define __builtin_erf(x) ::erf(x)
#define __builtin_sin(x) ::sin(x)
#define __builtin_cos(x) ::cos(x)
#define __builtin_pow(x, y) ::pow(x, y)

namespace soracc {

// What the driver makes of a description of a matrix in memory, for copies by the tensor memory accelerator.
struct alignas(64) TensorMap {
  uint64_t words[16];
};

// --- shared memory --------------------------------------------------------------------------------------------------

// The start of the block's dynamic shared memory; there is no other.
DEVICE uint8_t* shared_memory() {
  extern __shared__ __align__(1024) uint8_t block_memory[];
  return block_memory;
}

DEVICE uint32_t shared_address(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }

// --- barriers -------------------------------------------------------------------------------------------------------

DEVICE void sync_threads() { __syncthreads(); }
DEVICE void sync_warp() { __syncwarp(); }

// Barriers 1 to 15, each of a whole number of warps: wait for `threads` arrivals, or only count as one of them.
DEVICE void sync_named(uint32_t barrier, uint32_t threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
DEVICE void arrive_named(uint32_t barrier, uint32_t threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// --- within a warp --------------------------------------------------------------------------------------------------

template <class T>
DEVICE T shuffle_xor(T value, uint32_t mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
template <class T>
DEVICE T shuffle(T value, uint32_t lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
DEVICE uint32_t ballot(bool predicate) { return __ballot_sync(0xffffffffu, predicate); }

// --- matrices of 8 rows of 16 bytes ---------------------------------------------------------------------------------

// Lanes 8i to 8i + 7 give the addresses of the rows of matrix i; lane l gets word l % 4 of row l / 4 of each matrix.
// `_trans`: of the matrix of 16-bit elements transposed.
DEVICE void ldmatrix_x4(uint32_t (&d)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(address)
               : "memory");
}
DEVICE void ldmatrix_x2(uint32_t (&d)[2], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(d[0]), "=r"(d[1])
               : "r"(address)
               : "memory");
}
DEVICE void ldmatrix_x4_trans(uint32_t (&d)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(address)
               : "memory");
}
DEVICE void ldmatrix_x2_trans(uint32_t (&d)[2], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(d[0]), "=r"(d[1])
               : "r"(address)
               : "memory");
}

// d += a b for 16 x 8 sums, over 16 steps of 16-bit elements or 8 steps of tf32.
DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// --- conversions ----------------------------------------------------------------------------------------------------

// The nearest tf32 (a float with ten bits of fraction), half-way cases away from zero.
DEVICE uint32_t to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

// Two floats as a pair of 16-bit ones, to nearest, ties to even; `low` comes first in memory.
DEVICE uint32_t pack_bf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
DEVICE uint32_t pack_f16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
// The first of a pair.
DEVICE float unpack_f16(uint32_t pair) {
  float value;
  asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\ncvt.f32.f16 %0, low;\n}" : "=f"(value) : "r"(pair));
  return value;
}

// --- copies into shared memory that run while the kernel goes on ----------------------------------------------------

// 16 bytes to a 16-byte boundary, 4 bytes to a 4-byte boundary; only the first `bytes` are read, zeros fill the rest.
DEVICE void copy_async_16(uint32_t shared, const void* global, uint32_t bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(bytes) : "memory");
}
DEVICE void copy_async_4(uint32_t shared, const void* global, uint32_t bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared), "l"(global), "r"(bytes) : "memory");
}

// Copies since the last commit are one group; waiting for all but the latest N groups makes this thread's copies land.
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// --- approximations of the special function unit --------------------------------------------------------------------

// 2^x, log2 x, 1 / x and 1 / sqrt x to about 22 bits; subnormals count as zero.
DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float log2_approx(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float rsqrt_approx(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace soracc
