// contract_contract: acc = sum_k (bf16(a2)) * (bf16(a3)); a1 := 0.5 * bf16(acc + a0) * (1 + tanh(0.79788456 * (bf16(acc + a0) + 0.044715 * (bf16(acc + a0) * bf16(acc + a0) * bf16(acc + a0)))))
//   x0  [width = 4608] f32
//   y0  [batch, tokens, width = 4608] f32, written
//   x1  [batch, tokens, width = 1152] f32
//   x2  [width = 4608, width = 1152] f32
#include "prelude.cuh"
#include "tile.cuh"

namespace soracc {
struct Arguments {
  const float* x0;
  float* y0;
  const float* x1;
  const float* x2;
  bf16* left_packed;
  bf16* right_packed;
  int64_t batch;
  int64_t tokens;
};

using Block = BlockProduct<bf16, 128, 128, 2, 4, true, true>;

// The left side as it is multiplied.
extern "C" __global__ void __launch_bounds__(256) contract_contract_401b431c_0(const __grid_constant__ Arguments arguments) {
  const float* const x1 = arguments.x1;
  bf16* const left_packed = arguments.left_packed;
  const int64_t batch = arguments.batch;
  const int64_t tokens = arguments.tokens;
  const int64_t total = 1152 * batch * tokens, outer_size = batch * tokens, inner_size = 1152;
  const int64_t element = block_index() * 256 + thread_index();
  if (element < total) {
    const int64_t step = element % inner_size, line = element / inner_size;
    [[maybe_unused]] const int64_t own = line % outer_size, sample = line / outer_size;
    const float x1_value = x1[own * 1152 + step];
    left_packed[line * 1152 + step] = x1_value;
  }
}

// The right side as it is multiplied.
extern "C" __global__ void __launch_bounds__(256) contract_contract_401b431c_1(const __grid_constant__ Arguments arguments) {
  const float* const x2 = arguments.x2;
  bf16* const right_packed = arguments.right_packed;
  const int64_t total = 5308416, outer_size = 4608, inner_size = 1152;
  const int64_t element = block_index() * 256 + thread_index();
  if (element < total) {
    const int64_t step = element % inner_size, line = element / inner_size;
    [[maybe_unused]] const int64_t own = line % outer_size, sample = line / outer_size;
    const float x2_value = x2[own * 1152 + step];
    right_packed[line * 1152 + step] = x2_value;
  }
}

extern "C" __global__ void __launch_bounds__(256, 1) contract_contract_401b431c_2(const __grid_constant__ Arguments arguments) {
  const float* const x0 = arguments.x0;
  float* const y0 = arguments.y0;
  bf16* const left_packed = arguments.left_packed;
  bf16* const right_packed = arguments.right_packed;
  const int64_t batch = arguments.batch;
  const int64_t tokens = arguments.tokens;
  const int64_t row_total = batch * tokens, column_total = 4608, depth_total = 1152;
  const int64_t row_tiles = ceil_div(row_total, Block::ROWS), column_tiles = ceil_div(column_total, Block::COLUMNS);
  const int64_t tiles = row_tiles * column_tiles;
  [[maybe_unused]] const int64_t sample = block_index() / tiles;
  const int64_t depth_first = 0, depth_last = depth_total;
  // Neighbouring blocks take eight rows of tiles, column by column, so that what they read is still in the second cache.
  const int64_t tile = block_index() % tiles, band = tile / (8 * column_tiles) * 8;
  const int64_t band_rows = smaller(8, row_tiles - band), place = tile - band * column_tiles;
  const int64_t row_first = (band + place % band_rows) * Block::ROWS, column_first = place / band_rows * Block::COLUMNS;
  const Matrix<bf16> left = { left_packed, 1152, batch * tokens, 1152 };
  const Matrix<bf16> right = { right_packed, 1152, 4608, 1152 };
  Block product;
  product.run(left, right, row_first, column_first, depth_first, depth_last, shared_memory());
  const float* const sums = product.share(shared_memory());
  const int rows = static_cast<int>(smaller(Block::ROWS, row_total - row_first));
  #pragma unroll 1
  for (int down = warp_index(); down < rows; down += Block::THREADS / WARP) {
    const int64_t row = row_first + down;
    const auto y0_at = y0 + row * 4608;
    #pragma unroll
    for (int across = 0; across < Block::COLUMNS; across += WARP) {
      const int64_t column = column_first + across + lane_index();
      if (column < column_total) {
        const float sum = sums[down * Block::PITCH + across + lane_index()];
        const float x0_value = x0[column];
        const float v2 = round_to_bf16(sum + x0_value);
        const float v3 = 0.5f * v2 * (1.0f + tanh(0x1.988454p-1f * (v2 + 0x1.6e4e26p-5f * (v2 * v2 * v2))));
        y0_at[column] = v3;
      }
    }
  }
}
}  // namespace soracc
