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

// A block has one row.
extern "C" __global__ void __launch_bounds__(128) layer_norm_modulate_rows_94cd3e1c_0(const __grid_constant__ Arguments arguments) {
  constexpr int LANES = 128;
  // A lane holds its elements of the row for the sweeps after the first.
  constexpr int TURNS = 9;
  const bf16* const x = arguments.x;
  const bf16* const scale = arguments.scale;
  const bf16* const shift2 = arguments.shift2;
  bf16* const y = arguments.y;
  float* const rstd = arguments.rstd;
  const int64_t batch = arguments.batch;
  const int64_t tokens = arguments.tokens;
  const float s0 = static_cast<float>(arguments.s0);
  [[maybe_unused]] const int64_t row_count = batch * tokens, length = 1152;
  const int lane = thread_index() % LANES;
  const int64_t row = block_index();
  const int64_t i_batch = uint32_t(row) / uint32_t(tokens);
  const int64_t i_tokens = uint32_t(row) % uint32_t(tokens);
  [[maybe_unused]] float x_held[TURNS];
  const auto x_at = x + i_batch * 1152 * tokens + i_tokens * 1152;
  float r0_part = 0;
  #pragma unroll
  for (int turn = 0; turn < TURNS; ++turn) {
    [[maybe_unused]] const int64_t at = lane + turn * LANES;
    const float x_value = x_at[at];
    x_held[turn] = x_value;
    r0_part += x_value;
  }
  const float r0 = reduce_block<Sum, 128>(r0_part, reinterpret_cast<float*>(shared_memory() + 0));
  const float v2 = quotient(r0, 1152.0f);
  float r1_part = 0;
  #pragma unroll
  for (int turn = 0; turn < TURNS; ++turn) {
    [[maybe_unused]] const int64_t at = lane + turn * LANES;
    const float v3 = x_held[turn] - v2;
    r1_part += v3 * v3;
  }
  const float r1 = reduce_block<Sum, 128>(r1_part, reinterpret_cast<float*>(shared_memory() + 32));
  const float v4 = rsqrt(quotient(r1, 1152.0f) + s0);
  const auto scale_at = scale + i_batch * 1152;
  const auto shift2_at = shift2 + i_batch * 1152;
  const auto y_at = y + i_batch * 1152 * tokens + i_tokens * 1152;
  // Every lane has read what the row's own values need.
  sync_threads();
  #pragma unroll
  for (int turn = 0; turn < TURNS; ++turn) {
    [[maybe_unused]] const int64_t at = lane + turn * LANES;
    const float scale_value = scale_at[at];
    const float shift2_value = shift2_at[at];
    y_at[at] = (x_held[turn] - v2) * v4 * (1.0f + scale_value) + shift2_value;
  }
  if (lane == 0) {
    rstd[i_batch * tokens + i_tokens] = v4;
  }
}
}  // namespace soracc
