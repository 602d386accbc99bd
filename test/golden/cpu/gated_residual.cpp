// gated_residual: y = x + gate * gelu(h)
//   x     [batch, tokens, hidden = 1152] f32
//   h     [batch, tokens, hidden = 1152] bf16
//   gate  [batch, hidden = 1152] f32
//   y     [batch, tokens, hidden = 1152] f32, written
#include "prelude.hpp"

SORACC_EXPORT void gated_residual_198ee1c6_0(const Launch* launch, int64_t task) {
  const int64_t batch = launch->sizes[0];
  const int64_t tokens = launch->sizes[1];
  const float* const x = static_cast<const float*>(launch->buffers[0]);
  const bf16* const h = static_cast<const bf16*>(launch->buffers[1]);
  const float* const gate = static_cast<const float*>(launch->buffers[2]);
  float* const y = static_cast<float*>(launch->buffers[3]);
  // Elements in memory order, 16384 to a task.
  const int64_t first = task * 16384;
  const int64_t last = smaller(first + 16384, 1152 * batch * tokens);
  int64_t rest = first;
  int64_t start = rest % 1152;
  rest /= 1152;
  int64_t i_tokens = rest % tokens;
  rest /= tokens;
  int64_t i_batch = rest;
  for (int64_t at = first; at < last;) {
    const int64_t stop = smaller(start + last - at, 1152);
    const auto x_at = x + i_batch * 1152 * tokens + i_tokens * 1152;
    const auto gate_at = gate + i_batch * 1152;
    const auto h_at = h + i_batch * 1152 * tokens + i_tokens * 1152;
    const auto y_at = y + i_batch * 1152 * tokens + i_tokens * 1152;
    #pragma omp simd
    for (int64_t i_hidden = start; i_hidden < stop; ++i_hidden) {
      const float x_value = x_at[i_hidden];
      const float gate_value = gate_at[i_hidden];
      const float h_value = h_at[i_hidden];
      const float v = 0x1.988454p-1f * (h_value + 0x1.6e4e26p-5f * (h_value * h_value * h_value));
      y_at[i_hidden] = x_value + gate_value * (0.5f * h_value * (1.0f + tanh(v)));
    }
    at += stop - start;
    start = 0;
    if (++i_tokens < tokens) continue;
    i_tokens = 0;
    ++i_batch;
  }
}
