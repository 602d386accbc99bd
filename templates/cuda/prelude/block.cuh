// What the threads of a block do together: reductions along fixed trees, so that a sum has the same bits every time.
#pragma once

namespace soracc {

constexpr int WARP = 32;

DEVICE int32_t thread_index() { return static_cast<int32_t>(threadIdx.x); }
DEVICE int32_t lane_index() { return static_cast<int32_t>(threadIdx.x % WARP); }
DEVICE int32_t warp_index() { return static_cast<int32_t>(threadIdx.x / WARP); }
DEVICE int64_t block_index() { return static_cast<int64_t>(blockIdx.x); }

// Quotients by one number of many below 2^31, each a product and a shift (Granlund and Montgomery, 1994). The divisor is
// from 1 to 2^31.
struct Divider {
  uint32_t divisor, factor, shift;

  SORACC_INLINE_MEMBER explicit Divider(int64_t by) : divisor(static_cast<uint32_t>(by)), shift(31) {
    while ((uint64_t(1) << (shift - 31)) < divisor) ++shift;
    factor = static_cast<uint32_t>((uint64_t(1) << shift) / divisor + 1);
  }
  SORACC_INLINE_MEMBER uint32_t quotient(int64_t number) const {
    return static_cast<uint32_t>((uint64_t(static_cast<uint32_t>(number)) * factor) >> shift);
  }
  SORACC_INLINE_MEMBER uint32_t remainder(int64_t number) const {
    return static_cast<uint32_t>(number) - quotient(number) * divisor;
  }
};

// How two partial results become one.
struct Sum {
  template <class T>
  SORACC_INLINE_MEMBER static T of(T a, T b) { return a + b; }
};
struct Largest {
  template <class T>
  SORACC_INLINE_MEMBER static T of(T a, T b) { return max(a, b); }
};
struct Smallest {
  template <class T>
  SORACC_INLINE_MEMBER static T of(T a, T b) { return min(a, b); }
};
struct Any {
  SORACC_INLINE_MEMBER static uint32_t of(uint32_t a, uint32_t b) { return a | b; }
};
struct All {
  SORACC_INLINE_MEMBER static uint32_t of(uint32_t a, uint32_t b) { return a & b; }
};

// The result over LANES neighbouring lanes, in all of them.
template <class By, int LANES = WARP, class T>
DEVICE T reduce_lanes(T value) {
#pragma unroll
  for (int distance = LANES / 2; distance > 0; distance /= 2) value = By::of(value, shuffle_xor(value, distance));
  return value;
}

// The result over the block, in all of its threads. `slots` is shared memory for one value per warp, free when every
// thread comes here, and busy until the block's next barrier.
template <class By, int THREADS, class T>
DEVICE T reduce_block(T value, T* slots) {
  constexpr int WARPS = THREADS / WARP;
  value = reduce_lanes<By>(value);
  if constexpr (WARPS > 1) {
    if (lane_index() == 0) slots[warp_index()] = value;
    sync_threads();
    value = slots[0];
#pragma unroll
    for (int warp = 1; warp < WARPS; ++warp) value = By::of(value, slots[warp]);
  }
  return value;
}

}  // namespace soracc
