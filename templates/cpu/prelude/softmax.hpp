// Exponentials of a softmax, in whole vectors: scores in units of ln 2 and relative to a maximum, so that 2^x with
// x <= 0 is all it takes.
#pragma once

#include "scalar.hpp"
#include "tile.hpp"

namespace soracc {

constexpr float LOG2_E = 0x1.715476p+0f, LN_2 = 0x1.62e43p-1f;

typedef tile::Vector<float>::Value Floats;
typedef uint32_t Words __attribute__((vector_size(VECTOR_BYTES)));
constexpr int64_t LANES = tile::Vector<float>::LANES;

SORACC_INLINE Floats load(const float* from) { return tile::Vector<float>::load(from); }
SORACC_INLINE void store(float* to, Floats value) { tile::Vector<float>::store(to, value); }

// The larger of two; a NaN on the left is passed over, and shows in the exponential of its difference.
SORACC_INLINE Floats larger_of(Floats a, Floats b) { return a > b ? a : b; }

// 2^x for x up to a rounding error above 0. Below 2^-126 it is zero, so that -inf hides a key for good; NaN stays NaN.
// 2^r on |r| <= 1/2: 1 + r P(r), degree 5, relative error 2e-9.
SORACC_INLINE Floats exp2_of_decline(Floats x) {
  const Floats least = Floats{} - 126.0f;
  const Floats inside = x < least ? least : x;
  const Floats shifted = inside + ROUND_F32;
  const Floats r = inside - (shifted - ROUND_F32);
  Floats p = Floats{} + 0x1.41fbbap-13f;
  p = p * r + 0x1.5f3e54p-10f;
  p = p * r + 0x1.3b2d4cp-7f;
  p = p * r + 0x1.c6aee8p-5f;
  p = p * r + 0x1.ebfbdcp-3f;
  p = p * r + 0x1.62e43p-1f;
  p = p * r + 1.0f;
  // The low bits of `shifted` are the whole part: moved to the exponent of 1, they make its power of two.
  const Floats power = (Floats)(((Words)shifted << 23) + 0x3f800000u);
  return x < least ? Floats{} : p * power;
}

}  // namespace soracc
