// layer_norm_modulate_rows: y = (x - mean) * rstd * (1 + scale) + shift
//   x      [batch, tokens, hidden = 1152] bf16
//   scale  [batch, hidden = 1152] bf16
//   shift  [batch, hidden = 1152] bf16
//   y      [batch, tokens, hidden = 1152] bf16, written
//   rstd   [batch, tokens] f32, written
#include "prelude.hpp"

SORACC_EXPORT void layer_norm_modulate_rows_ab99a72f_0(const Launch* launch, int64_t task) {
  const int64_t batch = launch->sizes[0];
  const int64_t tokens = launch->sizes[1];
  const bf16* const x = static_cast<const bf16*>(launch->buffers[0]);
  const bf16* const scale = static_cast<const bf16*>(launch->buffers[1]);
  const bf16* const shift = static_cast<const bf16*>(launch->buffers[2]);
  bf16* const y = static_cast<bf16*>(launch->buffers[3]);
  float* const rstd = static_cast<float*>(launch->buffers[4]);
  const float s0 = static_cast<float>(launch->scalars[0]);
  // About 16384 elements to a task, whole rows; the stages after the first find the row in cache.
  const int64_t block = 14;
  const int64_t first = task * block;
  const int64_t last = smaller(first + block, batch * tokens);
  for (int64_t row = first; row < last; ++row) {
    const int64_t i_batch = row / tokens;
    const int64_t i_tokens = row % tokens;
    const auto x_at = x + i_batch * 1152 * tokens + i_tokens * 1152;
    float r0_run = 0;
    #pragma omp simd reduction(+ : r0_run)
    for (int64_t i_hidden = 0; i_hidden < 1152; ++i_hidden) {
      const float x_value = x_at[i_hidden];
      r0_run += x_value;
    }
    const float r0 = r0_run;

    const float v = quotient(r0, 1152.0f);
    float r1_run = 0;
    #pragma omp simd reduction(+ : r1_run)
    for (int64_t i_hidden = 0; i_hidden < 1152; ++i_hidden) {
      const float x_value2 = x_at[i_hidden];
      const float v2 = x_value2 - v;
      r1_run += v2 * v2;
    }
    const float r1 = r1_run;

    const float v3 = rsqrt(quotient(r1, 1152.0f) + s0);
    const auto scale_at = scale + i_batch * 1152;
    const auto shift_at = shift + i_batch * 1152;
    const auto y_at = y + i_batch * 1152 * tokens + i_tokens * 1152;
    #pragma omp simd
    for (int64_t i_hidden = 0; i_hidden < 1152; ++i_hidden) {
      const float x_value3 = x_at[i_hidden];
      const float scale_value = scale_at[i_hidden];
      const float shift_value = shift_at[i_hidden];
      y_at[i_hidden] = (x_value3 - v) * v3 * (1.0f + scale_value) + shift_value;
    }
    rstd[i_batch * tokens + i_tokens] = v3;
  }
}
