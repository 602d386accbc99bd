// Exponentials and logarithms of floats, without branches and without calls, so that a loop over them becomes vector
// code. Included by scalar.hpp.
#pragma once

namespace soracc {

// 2^n times value, for -252 <= n <= 254, in two steps that overflow and underflow as one would.
SORACC_INLINE float scale_by_power(float value, int32_t n) {
  const int32_t half = n >> 1;
  const float first = bit_cast<float>(static_cast<uint32_t>(half + 127) << 23);
  const float second = bit_cast<float>(static_cast<uint32_t>(n - half + 127) << 23);
  return value * first * second;
}

// e^r - 1 on |r| <= ln(2) / 2, degree 6.
SORACC_INLINE float expm1_reduced(float r) {
  const float high = (0x1.6db676p-10f * r + 0x1.123dp-7f) * r + 0x1.55545cp-5f;
  return ((high * r + 0x1.55548cp-3f) * r + 0.5f) * (r * r) + r;
}

SORACC_INLINE float exp(float x) {
  const float low = x < -104.0f ? -104.0f : x;
  const float inside = low > 89.0f ? 89.0f : low;
  const float shifted = inside * 0x1.715476p+0f + ROUND_F32;
  const int32_t n = bit_cast<int32_t>(shifted) - bit_cast<int32_t>(ROUND_F32);
  const float whole = shifted - ROUND_F32;
  const float r = (inside - whole * 0x1.62e4p-1f) - whole * 0x1.7f7d1cp-20f;
  const float result = scale_by_power(1.0f + expm1_reduced(r), x == x ? n : 0);
  return result;
}

SORACC_INLINE float exp2(float x) {
  const float low = x < -151.0f ? -151.0f : x;
  const float inside = low > 129.0f ? 129.0f : low;
  const float shifted = inside + ROUND_F32;
  const int32_t n = bit_cast<int32_t>(shifted) - bit_cast<int32_t>(ROUND_F32);
  const float rest = inside - (shifted - ROUND_F32);
  const float r = rest * 0x1.62e43p-1f;
  const float lost = rest * -0x1.05c61p-29f;
  return scale_by_power(1.0f + (expm1_reduced(r) + lost), x == x ? n : 0);
}

// ln(1 + f) - f + f^2 / 2 on sqrt(1/2) - 1 <= f <= sqrt(2) - 1: f^3 times degree 8.
SORACC_INLINE float log1p_tail(float f) {
  float p = 0x1.1b3e5ap-4f;
  p = p * f - 0x1.e2e7cep-4f;
  p = p * f + 0x1.e651a4p-4f;
  p = p * f - 0x1.fb438ep-4f;
  p = p * f + 0x1.2332b4p-3f;
  p = p * f - 0x1.5562ep-3f;
  p = p * f + 0x1.99a546p-3f;
  p = p * f - 0x1.ffffeep-3f;
  p = p * f + 0x1.555546p-2f;
  return p * f * f * f;
}

SORACC_INLINE float log(float x) {
  const bool subnormal = x < 0x1p-126f;
  const float normal = subnormal ? x * 0x1p23f : x;
  // The fraction in [sqrt(1/2), sqrt(2)): the subtraction carries into the exponent where it is larger.
  const uint32_t bits = bit_cast<uint32_t>(normal) - 0x3f3504f3u;
  const int32_t exponent = (static_cast<int32_t>(bits) >> 23) - (subnormal ? 23 : 0);
  const float f = bit_cast<float>((bits & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
  const float e = static_cast<float>(exponent);
  const float low = e * -0x1.bd0106p-13f + log1p_tail(f) - 0.5f * (f * f);
  const float finite = e * 0x1.63p-1f + (low + f);
  const float positive = x < __builtin_inff() ? finite : x;
  const float defined = x < 0.0f ? __builtin_nanf("") : positive;
  return x == 0.0f ? -__builtin_inff() : defined;
}

// ln(1 + x): what the sum 1 + x loses comes back divided by it.
SORACC_INLINE float log1p(float x) {
  const float sum = 1.0f + x;
  const float lost = (x - (sum - 1.0f)) / sum;
  const bool plain = (sum > 0.0f) & (sum < __builtin_inff());
  const float result = log(sum) + (plain ? lost : 0.0f);
  return x == 0.0f ? x : result;
}

// (e^2x - 1) / (e^2x + 1), of the magnitude: e^2x - 1 keeps the digits of small ones. From 10 on it is 1.
SORACC_INLINE float tanh(float x) {
  const float twice = 2.0f * abs(x);
  const float inside = twice > 20.0f ? 20.0f : twice;
  const float shifted = inside * 0x1.715476p+0f + ROUND_F32;
  const float whole = shifted - ROUND_F32;
  const float r = (inside - whole * 0x1.62e4p-1f) - whole * 0x1.7f7d1cp-20f;
  const float power = bit_cast<float>((bit_cast<uint32_t>(shifted) << 23) + 0x3f800000u);
  const float grown = power * expm1_reduced(r) + (power - 1.0f);
  return __builtin_copysignf(grown / (grown + 2.0f), x);
}

SORACC_INLINE float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
SORACC_INLINE float quotient(float a, float b) { return a / b; }

// 1 / (1 + e^-x), from the side on which the exponential cannot overflow.
SORACC_INLINE float sigmoid(float x) {
  const float small = exp(-abs(x));
  return (x >= 0.0f ? 1.0f : small) / (1.0f + small);
}

}  // namespace soracc
