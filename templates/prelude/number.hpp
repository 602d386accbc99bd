// Elements in memory, and the 64-bit arithmetic of sizes: what every target shares.
//
// The headers of this folder are written with the builtins of GCC and without a line of a standard library. Before they
// are included a target defines SORACC_INLINE and SORACC_INLINE_MEMBER (a function, a member function, inlined without
// exception), SORACC_UNROLLED (before a loop), the integer types of stdint.h, and the builtins that its compiler lacks.
// One whose machine converts to and from 16 bits by itself also defines SORACC_BF16_BITS(float), SORACC_F16_BITS(float)
// and SORACC_F16_VALUE(bits).
#pragma once

namespace soracc {

template <class To, class From>
SORACC_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the size");
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

// A double as the float whose last bit says whether anything was lost (round to odd): rounding that float once more to
// fewer bits gives what rounding the double would have given.
SORACC_INLINE float round_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  const double back = nearest;
  const uint32_t bits = bit_cast<uint32_t>(nearest);
  const bool outwards = (back < 0 ? -back : back) > (value < 0 ? -value : value);
  const uint32_t odd = (bits - (outwards ? 1u : 0u)) | 1u;
  return bit_cast<float>((back == value) | (value != value) ? bits : odd);
}

// To bfloat16, the upper half of a float: to nearest, ties to even; NaN stays NaN.
SORACC_INLINE uint32_t bf16_bits(float value) {
#ifdef SORACC_BF16_BITS
  return SORACC_BF16_BITS(value);
#else
  const uint32_t word = bit_cast<uint32_t>(value);
  const uint32_t rounded = word + 0x7fffu + ((word >> 16) & 1u);
  return (value == value ? rounded : word | 0x400000u) >> 16;
#endif
}

// To IEEE half, with subnormals: to nearest, ties to even; magnitudes from 65520 on become infinite.
SORACC_INLINE uint32_t f16_bits(float value) {
#ifdef SORACC_F16_BITS
  return SORACC_F16_BITS(value);
#else
  const uint32_t word = bit_cast<uint32_t>(value);
  const uint32_t magnitude = word & 0x7fffffffu;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Adding a half lines the bits of a subnormal up with the end of a float's fraction, rounded.
  const uint32_t small = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t finite = magnitude < 0x38800000u ? small : normal;
  return (magnitude >= 0x47800000u ? special : finite) | ((word >> 16) & 0x8000u);
#endif
}
SORACC_INLINE float f16_value(uint32_t bits) {
#ifdef SORACC_F16_VALUE
  return SORACC_F16_VALUE(bits);
#else
  const uint32_t magnitude = (bits & 0x7fffu) << 13;
  const uint32_t finite = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 0x1p112f);
  return bit_cast<float>((magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : finite) | ((bits & 0x8000u) << 16));
#endif
}

struct bf16 {
  uint16_t bits;

  SORACC_INLINE_MEMBER operator float() const { return bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

  SORACC_INLINE_MEMBER bf16& operator=(float value) {
    bits = static_cast<uint16_t>(bf16_bits(value));
    return *this;
  }

  SORACC_INLINE_MEMBER bf16& operator=(double value) { return *this = round_to_odd(value); }
};

struct f16 {
  uint16_t bits;

  SORACC_INLINE_MEMBER operator float() const { return f16_value(bits); }

  SORACC_INLINE_MEMBER f16& operator=(float value) {
    bits = static_cast<uint16_t>(f16_bits(value));
    return *this;
  }

  SORACC_INLINE_MEMBER f16& operator=(double value) { return *this = round_to_odd(value); }
};

// A truth value in a byte: anything but zero is true, true is stored as one.
struct boolean {
  uint8_t byte;

  SORACC_INLINE_MEMBER operator bool() const { return byte != 0; }

  SORACC_INLINE_MEMBER boolean& operator=(bool value) {
    byte = value;
    return *this;
  }
};

// Sizes, as the compiler's dims compute them.
SORACC_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
SORACC_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
SORACC_INLINE int64_t floor_div(int64_t a, int64_t b) { return a / b - ((a % b != 0) & ((a < 0) != (b < 0))); }
SORACC_INLINE int64_t floor_mod(int64_t a, int64_t b) { return a - floor_div(a, b) * b; }
SORACC_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

SORACC_INLINE int64_t ceil_sqrt(int64_t n) {
  int64_t side = static_cast<int64_t>(__builtin_sqrt(static_cast<double>(n)));
  while (side * side < n) ++side;
  while (side > 0 && (side - 1) * (side - 1) >= n) --side;
  return side;
}

}  // namespace soracc
