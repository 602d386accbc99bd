// layer_norm_modulate_rows: y = (x - mean) * rstd * (1 + scale) + shift
//   x       [batch, tokens, hidden = 1152] bf16
//   scale   [batch, hidden = 1152] bf16
//   shift2  [batch, hidden = 1152] bf16
//   y       [batch, tokens, hidden = 1152] bf16, written
//   rstd    [batch, tokens] f32, written
#include "prelude.cuh"

namespace soracc {
struct Arguments {
  const bf16* x;
  const bf16* scale;
  const bf16* shift2;
  bf16* y;
  float* rstd;
  int64_t batch;
  int64_t tokens;
  double s0;
};

// A block has 4 rows, of 32 lanes each; all lanes take part in every reduction.
extern "C" __global__ void __launch_bounds__(128) layer_norm_modulate_rows_07e9ea01_0(const __grid_constant__ Arguments arguments) {
  constexpr int LANES = 32;
  const bf16* const x = arguments.x;
  const bf16* const scale = arguments.scale;
  const bf16* const shift2 = arguments.shift2;
  bf16* const y = arguments.y;
  float* const rstd = arguments.rstd;
  const int64_t batch = arguments.batch;
  const int64_t tokens = arguments.tokens;
  const float s0 = static_cast<float>(arguments.s0);
  const int64_t row_count = batch * tokens, length = 1152;
  const int lane = thread_index() % LANES;
  const int64_t own_row = block_index() * 4 + thread_index() / LANES;
  // Lanes past the last row read it along, and store nothing.
  const bool exists = own_row < row_count;
  const int64_t row = exists ? own_row : row_count - 1;
  const int64_t i_batch = row / tokens;
  const int64_t i_tokens = row % tokens;
  const auto x_at = x + i_batch * 1152 * tokens + i_tokens * 1152;
  float r0_part = 0;
  for (int64_t at = lane; at < length; at += LANES) {
    const float x_value = x_at[at];
    r0_part += x_value;
  }
  const float r0 = reduce_lanes<Sum, 32>(r0_part);
  const float v2 = r0 / 1152.0f;
  float r1_part = 0;
  for (int64_t at = lane; at < length; at += LANES) {
    const float x_value2 = x_at[at];
    const float v3 = x_value2 - v2;
    r1_part += v3 * v3;
  }
  const float r1 = reduce_lanes<Sum, 32>(r1_part);
  const float v4 = rsqrt(r1 / 1152.0f + s0);
  const auto scale_at = scale + i_batch * 1152;
  const auto shift2_at = shift2 + i_batch * 1152;
  const auto y_at = y + i_batch * 1152 * tokens + i_tokens * 1152;
  // Every lane has read what the row's own values need.
  sync_warp();
  if (!exists) return;
  for (int64_t at = lane; at < length; at += LANES) {
    const float x_value3 = x_at[at];
    const float scale_value = scale_at[at];
    const float shift2_value = shift2_at[at];
    y_at[at] = (x_value3 - v2) * v4 * (1.0f + scale_value) + shift2_value;
  }
  if (lane == 0) {
    rstd[i_batch * tokens + i_tokens] = v4;
  }
}
}  // namespace soracc
