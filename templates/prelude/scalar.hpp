// The scalar functions, one overload per register type. The float versions have no branches and no calls, so that on a
// CPU a loop over them becomes vector code; they are within about two units in the last place and right at the ends of
// their range. The double versions are the C library's where exactness matters more than speed.
//
// Polynomials are near-minimax fits; their ranges and degrees stand beside them.
#pragma once

#include "number.hpp"

namespace soracc {

// --- arithmetic that C++ leaves undefined ---------------------------------------------------------------------------

SORACC_INLINE int32_t wrapping_add(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}
SORACC_INLINE int32_t wrapping_sub(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b));
}
SORACC_INLINE int32_t wrapping_mul(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) * static_cast<uint32_t>(b));
}
SORACC_INLINE int32_t wrapping_neg(int32_t a) { return static_cast<int32_t>(0u - static_cast<uint32_t>(a)); }

SORACC_INLINE int32_t shift_left(int32_t a, int32_t n) { return static_cast<int32_t>(static_cast<uint32_t>(a) << (n & 31)); }
SORACC_INLINE uint32_t shift_left(uint32_t a, uint32_t n) { return a << (n & 31u); }
SORACC_INLINE int32_t shift_right(int32_t a, int32_t n) { return a >> (n & 31); }
SORACC_INLINE uint32_t shift_right(uint32_t a, uint32_t n) { return a >> (n & 31u); }

// Towards minus infinity. By zero: the quotient is 0, the remainder the dividend. -2^31 over -1 is itself.
SORACC_INLINE int32_t floordiv(int32_t a, int32_t b) {
  const bool plain = !((b == 0) | ((a == INT32_MIN) & (b == -1)));
  const int32_t divisor = plain ? b : 1;
  const int32_t quotient = a / divisor;
  const int32_t rest = a % divisor;
  const int32_t floored = quotient - ((rest != 0) & ((rest < 0) != (divisor < 0)));
  return b == 0 ? 0 : floored;
}
SORACC_INLINE uint32_t floordiv(uint32_t a, uint32_t b) { return b == 0 ? 0 : a / (b == 0 ? 1 : b); }
SORACC_INLINE int32_t mod(int32_t a, int32_t b) { return wrapping_sub(a, wrapping_mul(floordiv(a, b), b)); }
SORACC_INLINE uint32_t mod(uint32_t a, uint32_t b) { return a - floordiv(a, b) * b; }

// --- conversions ----------------------------------------------------------------------------------------------------

SORACC_INLINE double to_f64(float x) { return x; }
SORACC_INLINE double to_f64(int32_t x) { return x; }
SORACC_INLINE double to_f64(uint32_t x) { return x; }
SORACC_INLINE double to_f64(bool x) { return x ? 1.0 : 0.0; }
SORACC_INLINE float to_f32(double x) { return static_cast<float>(x); }
SORACC_INLINE float to_f32(int32_t x) { return static_cast<float>(x); }
SORACC_INLINE float to_f32(uint32_t x) { return static_cast<float>(x); }
SORACC_INLINE float to_f32(bool x) { return x ? 1.0f : 0.0f; }
SORACC_INLINE int32_t to_i32(uint32_t x) { return static_cast<int32_t>(x); }
SORACC_INLINE int32_t to_i32(bool x) { return x ? 1 : 0; }
SORACC_INLINE uint32_t to_u32(int32_t x) { return static_cast<uint32_t>(x); }
SORACC_INLINE uint32_t to_u32(bool x) { return x ? 1u : 0u; }

// Towards zero; what does not fit saturates, NaN becomes 0. The value converted is always in range.
SORACC_INLINE int32_t to_i32(float x) {
  const float low = x > -0x1p31f ? x : -0x1p31f;
  const float inside = low < 0x1.fffffep30f ? low : 0x1.fffffep30f;
  const int32_t converted = static_cast<int32_t>(x == x ? inside : 0.0f);
  return x >= 0x1p31f ? INT32_MAX : converted;
}
SORACC_INLINE int32_t to_i32(double x) {
  const double low = x > -0x1p31 ? x : -0x1p31;
  const double inside = low < 0x1.fffffffcp30 ? low : 0x1.fffffffcp30;
  return static_cast<int32_t>(x == x ? inside : 0.0);
}
SORACC_INLINE uint32_t to_u32(float x) {
  const float low = x > 0.0f ? x : 0.0f;
  const float inside = low < 0x1.fffffep31f ? low : 0x1.fffffep31f;
  const uint32_t converted = static_cast<uint32_t>(inside);
  return x >= 0x1p32f ? UINT32_MAX : converted;
}
SORACC_INLINE uint32_t to_u32(double x) {
  const double low = x > 0.0 ? x : 0.0;
  const double inside = low < 0x1.fffffffep31 ? low : 0x1.fffffffep31;
  return static_cast<uint32_t>(inside);
}
SORACC_INLINE bool to_bool(float x) { return x != 0.0f; }
SORACC_INLINE bool to_bool(double x) { return x != 0.0; }
SORACC_INLINE bool to_bool(int32_t x) { return x != 0; }
SORACC_INLINE bool to_bool(uint32_t x) { return x != 0; }

// Rounding to a narrower type, in a float register.
SORACC_INLINE float round_to_f32(float x) { return x; }
SORACC_INLINE float round_to_bf16(float x) {
  bf16 narrow;
  narrow = x;
  return narrow;
}
SORACC_INLINE float round_to_f16(float x) {
  f16 narrow;
  narrow = x;
  return narrow;
}

// --- comparisons and signs ------------------------------------------------------------------------------------------

// NaN when either side is.
template <class T>
SORACC_INLINE T min(T a, T b) {
  return (a < b) | (a != a) ? a : b;
}
template <class T>
SORACC_INLINE T max(T a, T b) {
  return (a > b) | (a != a) ? a : b;
}
template <class T>
SORACC_INLINE T clamp(T x, T low, T high) {
  return min(max(x, low), high);
}

SORACC_INLINE float abs(float x) { return __builtin_fabsf(x); }
SORACC_INLINE double abs(double x) { return __builtin_fabs(x); }
SORACC_INLINE int32_t abs(int32_t x) { return x < 0 ? wrapping_neg(x) : x; }
SORACC_INLINE uint32_t abs(uint32_t x) { return x; }

// A zero keeps its sign, NaN stays NaN.
template <class T>
SORACC_INLINE T sign(T x) {
  const T positive = x > T(0) ? T(1) : x;
  return x < T(0) ? T(-1) : positive;
}

SORACC_INLINE bool is_finite(float x) { return (bit_cast<uint32_t>(x) & 0x7f800000u) != 0x7f800000u; }
SORACC_INLINE bool is_finite(double x) { return abs(x) < __builtin_inf(); }

SORACC_INLINE float floor(float x) { return __builtin_floorf(x); }
SORACC_INLINE double floor(double x) { return __builtin_floor(x); }
SORACC_INLINE float ceil(float x) { return __builtin_ceilf(x); }
SORACC_INLINE double ceil(double x) { return __builtin_ceil(x); }
// Half-way cases to even: the rounding mode that nothing here changes.
SORACC_INLINE float round(float x) { return __builtin_rintf(x); }
SORACC_INLINE double round(double x) { return __builtin_rint(x); }
SORACC_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
SORACC_INLINE double sqrt(double x) { return __builtin_sqrt(x); }
SORACC_INLINE double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }

// --- exponentials ---------------------------------------------------------------------------------------------------

// Added and subtracted, these leave the nearest whole number; its low bits are then those of the sum.
constexpr float ROUND_F32 = 0x1.8p23f;
constexpr double ROUND_F64 = 0x1.8p52;

}  // namespace soracc

// rsqrt, exp, exp2, log, log1p, tanh and sigmoid of floats, and quotients by a number that is known: the fastest that a
// target has.
#include "exponential.hpp"

namespace soracc {

SORACC_INLINE double exp(double x) { return __builtin_exp(x); }
SORACC_INLINE double exp2(double x) { return __builtin_exp2(x); }
SORACC_INLINE double log(double x) { return __builtin_log(x); }
SORACC_INLINE double log1p(double x) { return __builtin_log1p(x); }
SORACC_INLINE double tanh(double x) { return __builtin_tanh(x); }

SORACC_INLINE double sigmoid(double x) {
  const double small = exp(-abs(x));
  return (x >= 0.0 ? 1.0 : small) / (1.0 + small);
}

// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|)
SORACC_INLINE float softplus(float x) { return max(x, 0.0f) + log1p(exp(-abs(x))); }
SORACC_INLINE double softplus(double x) { return max(x, 0.0) + log1p(exp(-abs(x))); }

SORACC_INLINE float erf(float x) {
  const float magnitude = abs(x);
  const float s = x * x;
  // erf x = x + x P(x^2) below 0.94, degree 6
  float p = 0x1.5b4dfep-14f;
  p = p * s - 0x1.a9d214p-11f;
  p = p * s + 0x1.54bce4p-8f;
  p = p * s - 0x1.b80d94p-6f;
  p = p * s + 0x1.ce2ep-4f;
  p = p * s - 0x1.812742p-2f;
  p = p * s + 0x1.06eba8p-3f;
  const float small = p * x + x;
  // erf x = 1 - e^(-x Q(x)) from there to 4.05, degree 6; beyond it is 1
  const float t = magnitude < 4.05f ? magnitude : 4.05f;
  float q = 0x1.82a12cp-17f;
  q = q * t - 0x1.55792cp-12f;
  q = q * t + 0x1.dee832p-9f;
  q = q * t - 0x1.85b308p-6f;
  q = q * t + 0x1.b341p-4f;
  q = q * t + 0x1.453088p-1f;
  q = q * t + 0x1.20ef5ap+0f;
  const float large = __builtin_copysignf(1.0f - exp(-(q * t)), x);
  const float finite = magnitude < 0.94f ? small : large;
  return x == x ? finite : x;
}
SORACC_INLINE double erf(double x) { return __builtin_erf(x); }

// --- circular functions ---------------------------------------------------------------------------------------------

// In double: with 53 bits a two-part pi / 2 leaves a float's worth of exact angle for arguments far above 10^5.
// `quarter` is 0 for the sine, 1 for the cosine; |result| <= 1 for any finite argument.
SORACC_INLINE float sine_of_quarters(double x, double quarter) {
  const double n = (x * 0x1.45f306dc9c883p-1 + ROUND_F64) - ROUND_F64;
  const double reduced = (x - n * 0x1.921fb54400000p+0) - n * 0x1.0b4611a626331p-34;
  const double low = reduced < -0.8 ? -0.8 : reduced;
  const double r = low > 0.8 ? 0.8 : low;
  const double s = r * r;
  const double sine = (((0x1.6cd53815c0128p-19 * s - 0x1.a00f90ab7f99dp-13) * s + 0x1.111108865caa8p-7) * s - 0x1.5555554ca44b7p-3) * s * r + r;
  const double cosine = (((-0x1.2428850b3beeep-22 * s + 0x1.a0111514b166bp-16) * s - 0x1.6c16b8884187ep-10) * s + 0x1.5555554f3f316p-5) * (s * s) + (1.0 - 0.5 * s);
  // Which of the four quarters, without integers of 64 bits.
  const double turn = n + quarter;
  const double phase = turn - 4.0 * __builtin_floor(turn * 0.25);
  const double value = phase - 2.0 * __builtin_floor(phase * 0.5) == 1.0 ? cosine : sine;
  return static_cast<float>(phase >= 2.0 ? -value : value);
}

SORACC_INLINE float sin(float x) { return sine_of_quarters(x, 0.0); }
SORACC_INLINE float cos(float x) { return sine_of_quarters(x, 1.0); }
SORACC_INLINE double sin(double x) { return __builtin_sin(x); }
SORACC_INLINE double cos(double x) { return __builtin_cos(x); }

// --- powers ---------------------------------------------------------------------------------------------------------

// C's pow, through 2^(b log2 |a|) in double: y log2 x needs more bits than a float's result has.
SORACC_INLINE float pow(float a, float b) {
  const double magnitude = abs(a);
  // A float's exponent and fraction in double are those of a normal number, so that a shift reads them.
  const uint64_t bits = bit_cast<uint64_t>(magnitude) - 0x3fe6a09e00000000u;
  const uint64_t fraction = (bits & 0xfffffffffffffu) + 0x3fe6a09e00000000u;
  const double exponent = static_cast<double>(static_cast<int32_t>(static_cast<uint32_t>(bits >> 32)) >> 20);
  const double m = bit_cast<double>(fraction);
  const double s = (m - 1.0) / (m + 1.0);
  const double t = s * s;
  // ln m = 2s + s^3 P(s^2), degree 4
  double p = 0x1.911781132f0bp-3;
  p = p * t + 0x1.c62af32217288p-3;
  p = p * t + 0x1.249412520d9c5p-2;
  p = p * t + 0x1.999996a85d973p-2;
  p = p * t + 0x1.555555561e9b9p-1;
  const double log2 = exponent + (2.0 * s + p * t * s) * 0x1.71547652b82fep+0;
  const double product = log2 * b;
  const double low = product < -200.0 ? -200.0 : product;
  const double inside = low > 200.0 ? 200.0 : low;
  const double shifted = inside + ROUND_F64;
  const double r = inside - (shifted - ROUND_F64);
  // 2^r = 1 + r Q(r), degree 7
  double q = 0x1.640796c2fceep-20;
  q = q * r + 0x1.00dc0a7656597p-16;
  q = q * r + 0x1.43087798afa48p-13;
  q = q * r + 0x1.5d874623c50afp-10;
  q = q * r + 0x1.3b2ab7376e998p-7;
  q = q * r + 0x1.c6b08dd669259p-5;
  q = q * r + 0x1.ebfbdff80e615p-3;
  q = q * r + 0x1.62e42fef85349p-1;
  const uint64_t power = (bit_cast<uint64_t>(shifted) + 1023u) << 52;
  const float finite = static_cast<float>((q * r + 1.0) * bit_cast<double>(power));
  // Zero, infinity and NaN have no logarithm that would do.
  const float infinity = __builtin_inff();
  const float end = (a == 0.0f) != (b < 0.0f) ? 0.0f : infinity;
  const bool special = (a == 0.0f) | (abs(a) == infinity);
  const float beyond = (abs(a) > 1.0f) == (b > 0.0f) ? infinity : 0.0f;
  const float by_size = abs(b) == infinity ? (abs(a) == 1.0f ? 1.0f : beyond) : finite;
  const float unsigned_power = special ? end : by_size;
  const bool whole = floor(b) == b;
  const bool odd = whole & (abs(b) < 0x1p24f) & (floor(b * 0.5f) != b * 0.5f);
  const float with_sign = odd & (__builtin_signbit(a) != 0) ? -unsigned_power : unsigned_power;
  const bool undefined = ((a < 0.0f) & !whole & (abs(a) < infinity)) | (a != a) | (b != b);
  const float defined = undefined ? __builtin_nanf("") : with_sign;
  return (a == 1.0f) | (b == 0.0f) ? 1.0f : defined;
}
SORACC_INLINE double pow(double a, double b) { return __builtin_pow(a, b); }

}  // namespace soracc
