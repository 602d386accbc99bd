// Exponentials and logarithms of floats: the device library's, within two units in the last place. Included by
// scalar.hpp.
#pragma once

namespace soracc {

SORACC_INLINE float exp(float x) { return __builtin_expf(x); }
SORACC_INLINE float exp2(float x) { return __builtin_exp2f(x); }
SORACC_INLINE float log(float x) { return __builtin_logf(x); }
SORACC_INLINE float log1p(float x) { return __builtin_log1pf(x); }
SORACC_INLINE float tanh(float x) { return __builtin_tanhf(x); }

}  // namespace soracc
