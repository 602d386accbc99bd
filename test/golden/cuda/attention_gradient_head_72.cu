// attentiongradient_gradient: dv = p^T do, ds = p * (do v^T - rowsum(do * o)), dq = scale * ds k, dk = scale * ds^T q
//   x0  [batch, heads = 16, tokens, head = 72] bf16
//   x1  [batch, heads = 16, keys = tokens, head = 72] bf16
//   x2  [batch, heads = 16, keys = tokens, head = 72] bf16
//   x3  [batch, heads = 16, tokens, head = 72] f32
//   x4  [batch, heads = 16, tokens] f32
//   x5  [batch, heads = 16, tokens, head = 72] bf16
//   y0  [batch, heads = 16, tokens, head = 72] f32, written
//   y1  [batch, heads = 16, keys = tokens, head = 72] f32, written
//   y2  [batch, heads = 16, keys = tokens, head = 72] f32, written
//   x6  [batch] i32
#include "prelude.cuh"
#include "attention.cuh"

namespace soracc {
struct Arguments {
  const bf16* x0;
  const bf16* x1;
  const bf16* x2;
  const float* x3;
  const float* x4;
  const bf16* x5;
  float* y0;
  float* y1;
  float* y2;
  const int32_t* x6;
  float* deltas_of_queries;
  int64_t batch;
  int64_t tokens;
};

// Weights are recomputed from lse, once for the gradients of keys and values and once more for that of the queries, so
// that nothing is added across blocks:
//     p = exp(q k^T - lse),  ds = p * (do v^T - delta),  dv = p^T do,  dk = ds^T q,  dq = ds k
// where delta = sum of do * o over the head. A warp has 16 keys, or 16 queries; its scores stay in registers.
using Element = bf16;
constexpr int QUERIES = 32, KEYS = 64, KEY_STEP = 64, HEAD = 72, THREADS = 128, RANGES = 1;
// What the head is padded to as the depth of the scores, and as the width of a gradient.
constexpr int DEPTH = padded(HEAD, 16), WIDTH = padded(HEAD, 8);
constexpr float SCALE = 0x1.e2b7dep-4f;

using KeyTile = Tile<Element, KEYS, DEPTH>;
using QueryTile = Tile<Element, QUERIES, DEPTH>;

// The product of do and o over the head, for every query: one warp each.
extern "C" __global__ void __launch_bounds__(128, 1) attentiongradient_gradient_8bac1631_0(const __grid_constant__ Arguments arguments) {
  const float* const x3 = arguments.x3;
  const bf16* const x5 = arguments.x5;
  float* const deltas_of_queries = arguments.deltas_of_queries;
  const int64_t batch = arguments.batch;
  const int64_t tokens = arguments.tokens;
  const int64_t query_total = tokens;
  const int64_t number = block_index() * (THREADS / WARP) + warp_index();
  if (number >= 16 * batch * query_total) return;
  const int64_t sample = number / query_total, query = number % query_total;
  const int64_t i_batch = sample / 16, i_heads = sample % 16;
  const auto x3_at = x3 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x5_at2 = x5 + i_batch * 1152 * tokens + i_heads * 72;
  const auto o_row = x3_at + query * 1152;
  const auto do_row = x5_at2 + query * 1152;
  float sum = 0.0f;
  for (int column = lane_index(); column < HEAD; column += WARP) {
    sum += static_cast<float>(o_row[column * 1]) * static_cast<float>(do_row[column * 1]);
  }
  sum = reduce_lanes<Sum>(sum);
  if (lane_index() == 0) deltas_of_queries[number] = sum;
}

// The gradients of KEYS keys and values.
extern "C" __global__ void __launch_bounds__(128, 1) attentiongradient_gradient_8bac1631_1(const __grid_constant__ Arguments arguments) {
  const bf16* const x0 = arguments.x0;
  const bf16* const x1 = arguments.x1;
  const bf16* const x2 = arguments.x2;
  const float* const x4 = arguments.x4;
  const bf16* const x5 = arguments.x5;
  float* const y1 = arguments.y1;
  float* const y2 = arguments.y2;
  const int32_t* const x6 = arguments.x6;
  float* const deltas_of_queries = arguments.deltas_of_queries;
  const int64_t tokens = arguments.tokens;
  const int64_t query_total = tokens, key_total = tokens;
  const int64_t key_blocks = ceil_div(key_total, KEYS);
  const int64_t i_batch = block_index() / (key_blocks * 16), i_heads = block_index() / key_blocks % 16;
  const auto x0_at = x0 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x1_at = x1 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x2_at = x2 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x4_at = x4 + i_batch * 16 * tokens + i_heads;
  const auto x5_at = x5 + i_batch * 1152 * tokens + i_heads * 72;
  const int64_t key_first = block_index() % key_blocks * KEYS;
  const Ranges<RANGES> ranges = {
    { static_cast<int32_t>(0),  },
    { static_cast<int32_t>(0 + smaller(larger(int64_t(x6[i_batch]), 0), tokens)),  }
  };
  const Matrix<bf16> q = { x0_at, 1152, query_total, HEAD, 1 };
  const Matrix<bf16> k = { x1_at, 1152, key_total, HEAD, 1 };
  const Matrix<bf16> v = { x2_at, 1152, key_total, HEAD, 1 };
  const Matrix<bf16> doutput = { x5_at, 1152, query_total, HEAD, 1 };
  const float* const deltas = deltas_of_queries + block_index() / key_blocks * query_total;
  const bool q_aligned = is_aligned(q), do_aligned = is_aligned(doutput);

  uint8_t* const keys = shared_memory();
  uint8_t* const values = keys + KeyTile::BYTES;
  uint8_t* const stages = values + KeyTile::BYTES;
  const auto copy_queries = [&](int64_t first, int stage) {
    uint8_t* const to = stages + stage * 2 * QueryTile::BYTES;
    copy_tile<Element, QUERIES, DEPTH, THREADS>(to, q, first, 0, q_aligned);
    copy_tile<Element, QUERIES, DEPTH, THREADS>(to + QueryTile::BYTES, doutput, first, 0, do_aligned);
  };

  float dk[WIDTH / 8][4];
  clear(dk);
  float dv[WIDTH / 8][4];
  clear(dv);
  const int row = warp_index() * 16;
  bool visible[2];
  #pragma unroll
  for (int half = 0; half < 2; ++half) visible[half] = ranges.holds(key_first + row + fragment_row(2 * half));
  const int64_t query_begin = 0;
  copy_tile<Element, KEYS, DEPTH, THREADS>(keys, k, key_first, 0, is_aligned(k));
  copy_tile<Element, KEYS, DEPTH, THREADS>(values, v, key_first, 0, is_aligned(v));
  if (query_begin < query_total) copy_queries(query_begin, 0);
  copy_async_commit();
  int stage = 0;
  for (int64_t query_first = query_begin; query_first < query_total; query_first += QUERIES, stage ^= 1) {
    // This block has landed for everybody, and the place of the one before is free again.
    copy_async_wait<0>();
    sync_threads();
    if (query_first + QUERIES < query_total) copy_queries(query_first + QUERIES, stage ^ 1);
    copy_async_commit();
    const uint8_t* const queries = stages + stage * 2 * QueryTile::BYTES;
    const uint8_t* const outputs = queries + QueryTile::BYTES;

    float weights[QUERIES / 8][4];
    multiply_along<Element, KeyTile, QueryTile, DEPTH>(weights, keys, row, queries);
    #pragma unroll
    for (int j = 0; j < QUERIES / 8; ++j) {
      #pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t query = query_first + j * 8 + fragment_column(i);
        const float total = query < query_total ? x4_at[query * 16] : -__builtin_inff();
        const bool counts = visible[i / 2] && total != -__builtin_inff();
        weights[j][i] = counts ? exp2_approx((weights[j][i] * SCALE - total) * LOG2_E) : 0.0f;
      }
    }
    multiply_across<Element, QueryTile, QUERIES>(dv, weights, outputs);
    float ds[QUERIES / 8][4];
    multiply_along<Element, KeyTile, QueryTile, DEPTH>(ds, values, row, outputs);
    #pragma unroll
    for (int j = 0; j < QUERIES / 8; ++j) {
      #pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t query = query_first + j * 8 + fragment_column(i);
        ds[j][i] = weights[j][i] * (ds[j][i] - (query < query_total ? deltas[query] : 0.0f));
      }
    }
    multiply_across<Element, QueryTile, QUERIES>(dk, ds, queries);
  }
  copy_async_wait<0>();

  const auto y1_at = y1 + i_batch * 1152 * tokens + i_heads * 72;
  const auto y2_at = y2 + i_batch * 1152 * tokens + i_heads * 72;
  #pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t key = key_first + row + fragment_row(2 * half);
    if (key < key_total) {
      const auto dk_row = y1_at + key * 1152;
      const auto dv_row = y2_at + key * 1152;
      #pragma unroll
      for (int j = 0; j < WIDTH / 8; ++j) {
        #pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int column = j * 8 + fragment_column(i);
          if (HEAD % 8 == 0 || column < HEAD) {
            dk_row[column * 1] = dk[j][2 * half + i] * SCALE;
            dv_row[column * 1] = dv[j][2 * half + i];
          }
        }
      }
    }
  }
}

// The gradient of a block of queries, over the keys they see in steps of KEY_STEP.
extern "C" __global__ void __launch_bounds__(128, 1) attentiongradient_gradient_8bac1631_2(const __grid_constant__ Arguments arguments) {
  constexpr int ROWS = THREADS / WARP * 16;
  using RowTile = Tile<Element, ROWS, DEPTH>;
  using StepTile = Tile<Element, KEY_STEP, DEPTH>;
  const bf16* const x0 = arguments.x0;
  const bf16* const x1 = arguments.x1;
  const bf16* const x2 = arguments.x2;
  const float* const x4 = arguments.x4;
  const bf16* const x5 = arguments.x5;
  float* const y0 = arguments.y0;
  const int32_t* const x6 = arguments.x6;
  float* const deltas_of_queries = arguments.deltas_of_queries;
  const int64_t tokens = arguments.tokens;
  const int64_t query_total = tokens, key_total = tokens;
  const int64_t query_blocks = ceil_div(query_total, ROWS);
  const int64_t i_batch = block_index() / (query_blocks * 16), i_heads = block_index() / query_blocks % 16;
  const auto x0_at2 = x0 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x1_at2 = x1 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x2_at2 = x2 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x4_at2 = x4 + i_batch * 16 * tokens + i_heads;
  const auto x5_at3 = x5 + i_batch * 1152 * tokens + i_heads * 72;
  const auto y0_at = y0 + i_batch * 1152 * tokens + i_heads * 72;
  const int64_t query_first = block_index() % query_blocks * ROWS;
  const Ranges<RANGES> ranges = {
    { static_cast<int32_t>(0),  },
    { static_cast<int32_t>(0 + smaller(larger(int64_t(x6[i_batch]), 0), tokens)),  }
  };
  const int64_t key_end = key_total;
  const Matrix<bf16> q = { x0_at2, 1152, query_total, HEAD, 1 };
  const Matrix<bf16> k = { x1_at2, 1152, key_total, HEAD, 1 };
  const Matrix<bf16> v = { x2_at2, 1152, key_total, HEAD, 1 };
  const Matrix<bf16> doutput = { x5_at3, 1152, query_total, HEAD, 1 };
  const float* const deltas = deltas_of_queries + block_index() / query_blocks * query_total;
  const bool k_aligned = is_aligned(k), v_aligned = is_aligned(v);

  uint8_t* const queries = shared_memory();
  uint8_t* const outputs = queries + RowTile::BYTES;
  uint8_t* const stages = outputs + RowTile::BYTES;
  using Block = KeyBlock<RANGES, KEY_STEP>;
  const auto copy_keys = [&](const Block& block, int stage) {
    uint8_t* const to = stages + stage * 2 * StepTile::BYTES;
    copy_tile<Element, KEY_STEP, DEPTH, THREADS>(to, k, block.first, 0, k_aligned);
    copy_tile<Element, KEY_STEP, DEPTH, THREADS>(to + StepTile::BYTES, v, block.first, 0, v_aligned);
  };

  const int row = warp_index() * 16;
  float dq[WIDTH / 8][4], total[2], delta[2];
  clear(dq);
  #pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t query = query_first + row + fragment_row(2 * half);
    total[half] = query < query_total ? x4_at2[query * 16] : -__builtin_inff();
    delta[half] = query < query_total ? deltas[query] : 0.0f;
  }
  Block block = Block::begin(ranges, key_end);
  copy_tile<Element, ROWS, DEPTH, THREADS>(queries, q, query_first, 0, is_aligned(q));
  copy_tile<Element, ROWS, DEPTH, THREADS>(outputs, doutput, query_first, 0, is_aligned(doutput));
  if (block.exists()) copy_keys(block, 0);
  copy_async_commit();
  for (int stage = 0; block.exists(); stage ^= 1) {
    copy_async_wait<0>();
    sync_threads();
    const Block following = block.next(ranges, key_end);
    if (following.exists()) copy_keys(following, stage ^ 1);
    copy_async_commit();
    const uint8_t* const keys = stages + stage * 2 * StepTile::BYTES;
    const uint8_t* const values = keys + StepTile::BYTES;

    float weights[KEY_STEP / 8][4], ds[KEY_STEP / 8][4];
    multiply_along<Element, RowTile, StepTile, DEPTH>(weights, queries, row, keys);
    multiply_along<Element, RowTile, StepTile, DEPTH>(ds, outputs, row, values);
    const int key_count = static_cast<int>(block.count());
    #pragma unroll
    for (int j = 0; j < KEY_STEP / 8; ++j) {
      #pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = j * 8 + fragment_column(i);
        const bool counts = key < key_count && total[i / 2] != -__builtin_inff();
        const float weight = counts ? exp2_approx((weights[j][i] * SCALE - total[i / 2]) * LOG2_E) : 0.0f;
        ds[j][i] = counts ? weight * (ds[j][i] - delta[i / 2]) : 0.0f;
      }
    }
    multiply_across<Element, StepTile, KEY_STEP>(dq, ds, keys);
    block = following;
  }
  copy_async_wait<0>();

  #pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t query = query_first + row + fragment_row(2 * half);
    if (query < query_total) {
      const auto dq_row = y0_at + query * 1152;
      #pragma unroll
      for (int j = 0; j < WIDTH / 8; ++j) {
        #pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int column = j * 8 + fragment_column(i);
          if (HEAD % 8 == 0 || column < HEAD) dq_row[column * 1] = dq[j][2 * half + i] * SCALE;
        }
      }
    }
  }
}
}  // namespace soracc
