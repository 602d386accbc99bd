// Exponentials and logarithms of floats: the device library's, within two units in the last place. Included by
// scalar.hpp.
#pragma once

namespace soracc {

SORACC_INLINE float exp(float x) { return __builtin_expf(x); }
SORACC_INLINE float exp2(float x) { return __builtin_exp2f(x); }
SORACC_INLINE float log(float x) { return __builtin_logf(x); }
SORACC_INLINE float log1p(float x) { return __builtin_log1pf(x); }
SORACC_INLINE float tanh(float x) { return __builtin_tanhf(x); }

SORACC_INLINE float rsqrt(float x) {
  const bool tiny = x < 0x1p-126f;
  const float y = rsqrt_approx(tiny ? x * 0x1p24f : x);
  return tiny ? y * 0x1p12f : y;
}

// a / b where b is written in the kernel: what the product with 1 / b leaves is divided once more (Markstein, 1990).
SORACC_INLINE float quotient(float a, float b) {
  const float reciprocal = 1.0f / b, near = a * reciprocal;
  const float left = __builtin_fmaf(-near, b, a);
  return is_finite(near) ? __builtin_fmaf(left, reciprocal, near) : near;
}

// 1 / (1 + e^-x): an exponential that overflows leaves zero. Within 1e-7; in parts of the value an error grows with -x, 1e-6
// of it at -20.
SORACC_INLINE float sigmoid(float x) { return reciprocal_approx(1.0f + exp2_approx(x * -0x1.715476p+0f)); }

}  // namespace soracc
