// modulation_gradient_columns: dscale = sum dy * x, dshift = sum dy, over tokens
//   dy      [batch, tokens, hidden = 1152] bf16
//   x       [batch, tokens, hidden = 1152] bf16
//   dscale  [batch, hidden = 1152] f32, written
//   dshift  [batch, hidden = 1152] f32, written
#include "prelude.hpp"

namespace {
  // Columns that a task sums side by side: their sums stay in the first level of cache.
  constexpr int64_t BLOCK = 1152;

  // The stores of columns `first` to `last`, from `chunks` partial results each, which lie `stride` apart and meet in
  // order.
  inline void finish(const Launch* launch, int64_t outer, int64_t first, int64_t last, int64_t chunks,
    const float* r0_parts, const float* r1_parts, int64_t stride) {
    float* const dscale = static_cast<float*>(launch->buffers[2]);
    float* const dshift = static_cast<float*>(launch->buffers[3]);
    alignas(64) double r0_sum[BLOCK];
    alignas(64) double r1_sum[BLOCK];
    #pragma omp simd
    for (int64_t at = 0; at < last - first; ++at) {
      r0_sum[at] = 0;
      r1_sum[at] = 0;
    }
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      #pragma omp simd
      for (int64_t at = 0; at < last - first; ++at) {
        r0_sum[at] += r0_parts[chunk * stride + at];
        r1_sum[at] += r1_parts[chunk * stride + at];
      }
    }
    const auto dscale_at = dscale + outer * 1152;
    const auto dshift_at = dshift + outer * 1152;
    #pragma omp simd
    for (int64_t i_hidden = first; i_hidden < last; ++i_hidden) {
      dscale_at[i_hidden] = float(r0_sum[i_hidden - first]);
      dshift_at[i_hidden] = float(r1_sum[i_hidden - first]);
    }
  }
}  // namespace

SORACC_EXPORT void modulation_gradient_columns_de5738d4_0(const Launch* launch, int64_t task) {
  const int64_t tokens = launch->sizes[1];
  const bf16* const dy = static_cast<const bf16*>(launch->buffers[0]);
  const bf16* const x = static_cast<const bf16*>(launch->buffers[1]);
  // A task is a chunk of the rows in a block of columns.
  const int64_t chunk_rows = 64;
  const int64_t chunks = ceil_div(tokens, chunk_rows);
  const int64_t blocks = ceil_div(1152, BLOCK);
  const int64_t outer = task / blocks / chunks;
  const int64_t chunk = task / blocks % chunks;
  const int64_t first = task % blocks * BLOCK;
  const int64_t last = smaller(first + BLOCK, 1152);
  alignas(64) float r0_run[BLOCK];
  alignas(64) float r1_run[BLOCK];
  #pragma omp simd
  for (int64_t at = 0; at < last - first; ++at) {
    r0_run[at] = 0;
    r1_run[at] = 0;
  }
  const auto dy_at = dy + outer * 1152 * tokens;
  const auto x_at = x + outer * 1152 * tokens;
  const int64_t end = smaller((chunk + 1) * chunk_rows, tokens);
  for (int64_t row = chunk * chunk_rows; row < end; ++row) {
    const auto dy_at2 = dy_at + row * 1152;
    const auto x_at2 = x_at + row * 1152;
    #pragma omp simd
    for (int64_t i_hidden = first; i_hidden < last; ++i_hidden) {
      const float dy_value = dy_at2[i_hidden];
      const float x_value = x_at2[i_hidden];
      r0_run[i_hidden - first] += dy_value * x_value;
      r1_run[i_hidden - first] += dy_value;
    }
  }
  if (chunks == 1) return finish(launch, outer, first, last, 1, r0_run, r1_run, 0);
  float* const r0_parts = static_cast<float*>(launch->buffers[4]);
  float* const r1_parts = static_cast<float*>(launch->buffers[5]);
  const int64_t place = (outer * chunks + chunk) * 1152 + first;
  #pragma omp simd
  for (int64_t at = 0; at < last - first; ++at) {
    r0_parts[place + at] = r0_run[at];
    r1_parts[place + at] = r1_run[at];
  }
}

SORACC_EXPORT void modulation_gradient_columns_de5738d4_1(const Launch* launch, int64_t task) {
  const int64_t tokens = launch->sizes[1];
  const int64_t chunk_rows = 64;
  const int64_t chunks = ceil_div(tokens, chunk_rows);
  if (chunks == 1) return;  // the first phase has stored everything
  float* const r0_parts = static_cast<float*>(launch->buffers[4]);
  float* const r1_parts = static_cast<float*>(launch->buffers[5]);
  const int64_t blocks = ceil_div(1152, BLOCK);
  const int64_t outer = task / blocks;
  const int64_t first = task % blocks * BLOCK;
  const int64_t last = smaller(first + BLOCK, 1152);
  const int64_t place = outer * chunks * 1152 + first;
  finish(launch, outer, first, last, chunks, r0_parts + place, r1_parts + place, 1152);
}
