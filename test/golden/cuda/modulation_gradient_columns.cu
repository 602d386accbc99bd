// modulation_gradient_columns: dscale = sum dy * x, dshift = sum dy, over tokens
//   dy      [batch, tokens, hidden = 1152] bf16
//   x       [batch, tokens, hidden = 1152] bf16
//   dscale  [batch, hidden = 1152] f32, written
//   dshift  [batch, hidden = 1152] f32, written
#include "prelude.cuh"

namespace soracc {
struct Arguments {
  const bf16* dy;
  const bf16* x;
  float* dscale;
  float* dshift;
  float* r0_chunks;
  float* r1_chunks;
  int64_t batch;
  int64_t tokens;
};

// A block has 32 columns and, for each, 8 lanes that take every 8th row of a chunk.
// Four blocks at a time: without a number ptxas aims at eight, and spills a register for it.
extern "C" __global__ void __launch_bounds__(256, 4) modulation_gradient_columns_0d08278d_0(const __grid_constant__ Arguments arguments) {
  constexpr int WIDTH = 32, ROW_LANES = 8;
  const bf16* const dy = arguments.dy;
  const bf16* const x = arguments.x;
  float* const r0_chunks = arguments.r0_chunks;
  float* const r1_chunks = arguments.r1_chunks;
  const int64_t tokens = arguments.tokens;
  const int64_t row_count = tokens, column_count = 1152;
  const int64_t chunks = ceil_div(row_count, 512), blocks = ceil_div(column_count, WIDTH);
  const int64_t band = block_index() / blocks, outer = band / chunks, chunk = band - outer * chunks;
  const int row_lane = thread_index() / WIDTH;
  const int64_t own_column = block_index() % blocks * WIDTH + thread_index() % WIDTH;
  // Lanes past the last column read it along, and store nothing.
  const bool exists = own_column < column_count;
  const int64_t column = exists ? own_column : column_count - 1;
  const int64_t row_last = smaller((chunk + 1) * 512, row_count);
  const auto dy_at = dy + outer * 1152 * tokens + column;
  const auto x_at = x + outer * 1152 * tokens + column;
  float r0_part = 0;
  float r1_part = 0;
  for (int64_t row = chunk * 512 + row_lane; row < row_last; row += ROW_LANES) {
    const float dy_value = dy_at[row * 1152];
    const float x_value = x_at[row * 1152];
    r0_part += dy_value * x_value;
    r1_part += dy_value;
  }
  if constexpr (ROW_LANES > 1) {
    // The lanes of a column meet in a tree.
    float* const r0_part_slots = reinterpret_cast<float*>(shared_memory() + 0) + thread_index();
    *r0_part_slots = r0_part;
    float* const r1_part_slots = reinterpret_cast<float*>(shared_memory() + 2048) + thread_index();
    *r1_part_slots = r1_part;
    #pragma unroll
    for (int distance = ROW_LANES / 2; distance > 0; distance /= 2) {
      sync_threads();
      if (row_lane < distance) {
        *r0_part_slots = r0_part = Sum::of(r0_part, r0_part_slots[distance * WIDTH]);
        *r1_part_slots = r1_part = Sum::of(r1_part, r1_part_slots[distance * WIDTH]);
      }
    }
  }
  if (!exists || row_lane > 0) return;
  r0_chunks[(outer * chunks + chunk) * column_count + column] = r0_part;
  r1_chunks[(outer * chunks + chunk) * column_count + column] = r1_part;
}

// A thread adds the chunks of one column, in order.
extern "C" __global__ void __launch_bounds__(256) modulation_gradient_columns_0d08278d_1(const __grid_constant__ Arguments arguments) {
  float* const dscale = arguments.dscale;
  float* const dshift = arguments.dshift;
  float* const r0_chunks = arguments.r0_chunks;
  float* const r1_chunks = arguments.r1_chunks;
  const int64_t batch = arguments.batch;
  const int64_t tokens = arguments.tokens;
  const int64_t row_count = tokens, column_count = 1152, outer_count = batch;
  const int64_t chunks = ceil_div(row_count, 512);
  const int64_t element = block_index() * 256 + thread_index();
  if (element >= outer_count * column_count) return;
  const int64_t outer = element / column_count, column = element % column_count;
  float r0_part = 0;
  float r1_part = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    r0_part += r0_chunks[(outer * chunks + chunk) * column_count + column];
    r1_part += r1_chunks[(outer * chunks + chunk) * column_count + column];
  }
  const float r0 = r0_part;
  const float r1 = r1_part;
  dscale[outer * 1152 + column] = r0;
  dshift[outer * 1152 + column] = r1;
}
}  // namespace soracc
