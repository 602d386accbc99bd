// gated_residual: y = x + gate * gelu(h)
//   x     [batch, tokens, hidden = 1152] f32
//   h     [batch, tokens, hidden = 1152] bf16
//   gate  [batch, hidden = 1152] f32
//   y     [batch, tokens, hidden = 1152] f32, written
#include "prelude.cuh"

namespace soracc {
struct Arguments {
  const float* x;
  const bf16* h;
  const float* gate;
  float* y;
  int64_t batch;
  int64_t tokens;
};

extern "C" __global__ void __launch_bounds__(256) gated_residual_fe3167f5_0(const __grid_constant__ Arguments arguments) {
  const float* const x = arguments.x;
  const bf16* const h = arguments.h;
  const float* const gate = arguments.gate;
  float* const y = arguments.y;
  const int64_t batch = arguments.batch;
  const int64_t tokens = arguments.tokens;
  const int64_t total = 1152 * batch * tokens, first = block_index() * 256 * 4 + thread_index();
  // Everything that is read, then everything that is stored.
  float stored[4];
  #pragma unroll
  for (int item = 0; item < 4; ++item) {
    const int64_t element = first + item * 256;
    [[maybe_unused]] const bool inside = element < total;
    const int64_t i_batch = element / (1152 * tokens);
    const int64_t i_tokens = element / 1152 % tokens;
    const int64_t i_hidden = element % 1152;
    const float x_value = inside ? float(x[i_batch * 1152 * tokens + i_tokens * 1152 + i_hidden]) : float(0);
    const float gate_value = inside ? float(gate[i_batch * 1152 + i_hidden]) : float(0);
    const float h_value = inside ? float(h[i_batch * 1152 * tokens + i_tokens * 1152 + i_hidden]) : float(0);
    const float v2 = 0x1.988454p-1f * (h_value + 0x1.6e4e26p-5f * (h_value * h_value * h_value));
    stored[item] = x_value + gate_value * (0.5f * h_value * (1.0f + tanh(v2)));
  }
  #pragma unroll
  for (int item = 0; item < 4; ++item) {
    const int64_t element = first + item * 256;
    if (element >= total) break;
    const int64_t i_batch = element / (1152 * tokens);
    const int64_t i_tokens = element / 1152 % tokens;
    const int64_t i_hidden = element % 1152;
    y[i_batch * 1152 * tokens + i_tokens * 1152 + i_hidden] = stored[item];
  }
}
}  // namespace soracc
