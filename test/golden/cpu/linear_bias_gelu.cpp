// contract_contract: acc = sum_k (a2) * (a3); a1 := 0.5 * (acc + a0) * (1 + tanh(0.79788456 * (acc + a0 + 0.044715 * ((acc + a0) * (acc + a0) * (acc + a0)))))
//   x0  [width = 4608] f32
//   y0  [batch, tokens, width = 4608] f32, written
//   x1  [batch, tokens, width = 1152] f32
//   x2  [width = 4608, width = 1152] f32
#include "prelude.hpp"
#include "tile.hpp"

namespace {
  // What is multiplied, and what products are added in.
  using Operand = float;
  using Sum = float;
  // Blocks of the output, panels of the right side, steps of the sum over width.
  constexpr int64_t ROWS = 128, COLUMNS = 768, PANEL = 48, DEPTH = 384;

  struct Cut {
    int64_t rows, columns, depth, panel_depth;
    int64_t row_blocks, column_blocks, block_columns;
  };

  // How the sizes of this launch are cut into blocks: enough tasks for many threads, whatever their number.
  inline Cut cut_up(const Launch* launch) {
    const int64_t batch = launch->sizes[0];
    const int64_t tokens = launch->sizes[1];
    Cut cut;
    cut.rows = batch * tokens;
    cut.columns = 4608;
    cut.depth = 1152;
    cut.panel_depth = tile::whole_steps<Operand>(cut.depth);
    cut.row_blocks = ceil_div(cut.rows, ROWS);
    cut.block_columns = larger(2, smaller(16, 3 * floor_div((127 + batch * tokens), 128))) * PANEL;
    cut.column_blocks = ceil_div(cut.columns, cut.block_columns);
    return cut;
  }

  struct Place {
    int64_t sample, row_block, column_block;
  };

  // Blocks in the order of their tasks. Those of 8 row blocks come one column block after the other: what they share of
  // both sides is still in the caches.
  inline Place place_of(const Cut& cut, int64_t block) {
    constexpr int64_t GROUP = 8;
    const int64_t blocks = cut.row_blocks * cut.column_blocks, sample = block / blocks, rest = block - sample * blocks;
    const int64_t group_first = rest / (GROUP * cut.column_blocks) * GROUP;
    const int64_t count = smaller(GROUP, cut.row_blocks - group_first), at = rest - group_first * cut.column_blocks;
    return { sample, group_first + at % count, at / count };
  }

  constexpr int64_t LEFT_SIZE = 0;

  // The right side of a panel: rows of width, transposed.
  inline void pack_right(const Launch* launch, int64_t sample, int64_t column_first, int64_t column_last,
    int64_t depth_first, int64_t depth_last, Operand* panel, Operand*) {
    const float* const x2 = static_cast<const float*>(launch->buffers[3]);
    tile::transpose(x2 + column_first * 1152 + depth_first, 1152, column_last - column_first, depth_last - depth_first, panel, PANEL);
  }

  // The stores of one block; `tile` holds its sums.
  inline void finish(const Launch* launch, int64_t sample, int64_t row_first, int64_t row_last, int64_t column_first,
    int64_t column_last, const Sum* __restrict__ tile) {
    const float* const x0 = static_cast<const float*>(launch->buffers[0]);
    float* const y0 = static_cast<float*>(launch->buffers[1]);
    for (int64_t row = row_first; row < row_last; ++row) {
      const auto y0_at = y0 + row * 4608;
      for (int64_t column = column_first; column < column_last;) {
        const int64_t count = column_last - column;
        const Sum* __restrict__ const sums = tile + (row - row_first) * COLUMNS + (column - column_first);
        #pragma omp simd
        for (int64_t at = 0; at < count; ++at) {
          const float acc = static_cast<float>(sums[at]);
          const float x0_value = x0[column + at];
          const float v = acc + x0_value;
          const float v2 = 0.5f * v * (1.0f + tanh(0x1.988454p-1f * (v + 0x1.6e4e26p-5f * (v * v * v))));
          y0_at[column + at] = v2;
        }
        column += count;
      }
    }
  }
}  // namespace

// The right side, panel by panel, for every block of rows to use.
SORACC_EXPORT void contract_contract_82af33ba_0(const Launch* launch, int64_t task) {
  const Cut cut = cut_up(launch);
  const int64_t panels = ceil_div(cut.columns, PANEL), steps = ceil_div(cut.depth, DEPTH);
  const int64_t step = task % steps, panel = task / steps % panels, sample = task / steps / panels;
  Operand* const packed = static_cast<Operand*>(launch->buffers[4]) + (sample * panels + panel) * cut.panel_depth * PANEL;
  pack_right(launch, sample, panel * PANEL, smaller((panel + 1) * PANEL, cut.columns), step * DEPTH,
    smaller((step + 1) * DEPTH, cut.depth), packed + step * DEPTH * PANEL, reinterpret_cast<Operand*>(launch->scratch));
}

// One block of the output, then its stores.
SORACC_EXPORT void contract_contract_82af33ba_1(const Launch* launch, int64_t task) {
  const float* const x1 = static_cast<const float*>(launch->buffers[2]);
  const Cut cut = cut_up(launch);
  const int64_t block = task, depth_begin = 0, depth_end = cut.depth;
  const auto [sample, row_block, column_block] = place_of(cut, block);
  const int64_t row_first = row_block * ROWS, row_last = smaller(row_first + ROWS, cut.rows);
  const int64_t column_first = column_block * cut.block_columns;
  const int64_t column_last = smaller(column_first + cut.block_columns, cut.columns);

  Operand* const scratch = reinterpret_cast<Operand*>(launch->scratch);
  Sum* const sums = reinterpret_cast<Sum*>(launch->scratch + (LEFT_SIZE + 0) * sizeof(Operand));
  for (int64_t first = depth_begin; first < depth_end; first += DEPTH) {
    const int64_t last = smaller(first + DEPTH, depth_end);
    const tile::Left<Operand> left_block = { x1 + row_first * 1152 + first, 1152, 1 };
    const int64_t panel = column_first / PANEL;
    const tile::Right<Operand> right_block = { static_cast<const Operand*>(launch->buffers[4]) + (panel * cut.panel_depth + first) * PANEL, PANEL, cut.panel_depth * PANEL };
    tile::multiply<Operand, PANEL>(row_last - row_first, column_last - column_first, last - first, left_block, right_block, sums, COLUMNS, first > depth_begin);
  }
  finish(launch, sample, row_first, row_last, column_first, column_last, sums);
}
