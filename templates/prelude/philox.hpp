// Random numbers by counting: Philox 4x32 with ten rounds. A draw is a pure function of
//   key = (seed, path) and counter = (index mod 2^32, floor(index / 2^32), step, 0),
// the same integers and the same uniform on every device. No branches: a loop over draws becomes vector code.
#pragma once

#include "scalar.hpp"

namespace soracc {

// The first two of the four words of a counter.
SORACC_INLINE void philox(uint32_t seed, uint32_t step, uint32_t path, int64_t index, uint32_t& w0, uint32_t& w1) {
  uint32_t a = static_cast<uint32_t>(index), b = static_cast<uint32_t>(static_cast<uint64_t>(index) >> 32);
  uint32_t c = step, d = 0, key_a = seed, key_b = path;
  SORACC_UNROLLED(10)
  for (int round = 0; round < 10; ++round) {
    const uint64_t product_a = uint64_t(0xd2511f53u) * a;
    const uint64_t product_b = uint64_t(0xcd9e8d57u) * c;
    a = static_cast<uint32_t>(product_b >> 32) ^ b ^ key_a;
    b = static_cast<uint32_t>(product_b);
    c = static_cast<uint32_t>(product_a >> 32) ^ d ^ key_b;
    d = static_cast<uint32_t>(product_a);
    key_a += 0x9e3779b9u;
    key_b += 0xbb67ae85u;
  }
  w0 = a;
  w1 = b;
}

// A float in the open interval (0, 1): the half keeps it off 0, the minimum off 1.
SORACC_INLINE float word_to_uniform(uint32_t word) {
  const float u = (static_cast<float>(static_cast<int32_t>(word >> 8)) + 0.5f) * 0x1p-24f;
  return u < 0x1.fffffep-1f ? u : 0x1.fffffep-1f;
}

SORACC_INLINE float uniform(uint32_t seed, uint32_t step, uint32_t path, int64_t index) {
  uint32_t w0, w1;
  philox(seed, step, path, index, w0, w1);
  return word_to_uniform(w0);
}

// Box and Muller: sqrt(-2 ln u0) cos(2 pi u1).
SORACC_INLINE float normal(uint32_t seed, uint32_t step, uint32_t path, int64_t index) {
  uint32_t w0, w1;
  philox(seed, step, path, index, w0, w1);
  const double angle = word_to_uniform(w1) * 0x1.921fb54442d18p+2;
  return sqrt(-2.0f * log(word_to_uniform(w0))) * sine_of_quarters(angle, 1.0);
}

}  // namespace soracc
