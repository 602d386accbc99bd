// attention_forward: o = softmax(scale * q k^T + mask) v, lse = log of each row's sum of exponentials
//   x0  [batch, heads = 16, tokens, head = 72] bf16
//   x1  [batch, heads = 16, keys = tokens, head = 72] bf16
//   x2  [batch, heads = 16, keys = tokens, head = 72] bf16
//   y0  [batch, heads = 16, tokens, head = 72] f32, written
//   y1  [batch, heads = 16, tokens] f32, written
//   x3  [batch] i32
#include "prelude.cuh"
#include "attention.cuh"

namespace soracc {
struct Arguments {
  const bf16* x0;
  const bf16* x1;
  const bf16* x2;
  float* y0;
  float* y1;
  const int32_t* x3;
  int64_t batch;
  int64_t tokens;
};

// A block has QUERIES queries of one head, 16 to a warp, and walks over the keys it may see in blocks of KEYS. Scores,
// their running largest value and total, and the output stay in registers; keys and values come ahead of their use.
using Element = bf16;
constexpr int QUERIES = 64, KEYS = 64, HEAD = 72, THREADS = QUERIES * 2, RANGES = 1;
// What the head is padded to as the depth of the scores, and as the width of the output.
constexpr int DEPTH = padded(HEAD, 16), WIDTH = padded(HEAD, 8);
// Scores are taken in units of ln 2.
constexpr float SCALE = 0x1.e2b7dep-4f * LOG2_E;

using QueryTile = Tile<Element, QUERIES, DEPTH>;
using KeyTile = Tile<Element, KEYS, DEPTH>;
using ValueTile = Tile<Element, KEYS, WIDTH>;
constexpr int STAGE_BYTES = KeyTile::BYTES + ValueTile::BYTES;

extern "C" __global__ void __launch_bounds__(128, 1) attention_forward_23fea821_0(const __grid_constant__ Arguments arguments) {
  const bf16* const x0 = arguments.x0;
  const bf16* const x1 = arguments.x1;
  const bf16* const x2 = arguments.x2;
  float* const y0 = arguments.y0;
  float* const y1 = arguments.y1;
  const int32_t* const x3 = arguments.x3;
  const int64_t tokens = arguments.tokens;
  const int64_t query_total = tokens, key_total = tokens;
  const int64_t query_blocks = ceil_div(query_total, QUERIES);
  const int64_t i_batch = block_index() / (query_blocks * 16), i_heads = block_index() / query_blocks % 16;
  const auto x0_at = x0 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x1_at = x1 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x2_at = x2 + i_batch * 1152 * tokens + i_heads * 72;
  const auto y0_at = y0 + i_batch * 1152 * tokens + i_heads * 72;
  const auto y1_at = y1 + i_batch * 16 * tokens + i_heads;
  const int64_t query_first = block_index() % query_blocks * QUERIES;
  const Ranges<RANGES> ranges = {
    { static_cast<int32_t>(0),  },
    { static_cast<int32_t>(0 + smaller(larger(int64_t(x3[i_batch]), 0), tokens)),  }
  };
  const int64_t key_end = key_total;
  const Matrix<bf16> q = { x0_at, 1152, query_total, HEAD, 1 };
  const Matrix<bf16> k = { x1_at, 1152, key_total, HEAD, 1 };
  const Matrix<bf16> v = { x2_at, 1152, key_total, HEAD, 1 };
  const bool k_aligned = is_aligned(k), v_aligned = is_aligned(v);

  uint8_t* const queries = shared_memory();
  uint8_t* const stages = queries + QueryTile::BYTES;
  using Block = KeyBlock<RANGES, KEYS>;
  const auto copy_keys = [&](const Block& block, int stage) {
    uint8_t* const to = stages + stage * STAGE_BYTES;
    copy_tile<Element, KEYS, DEPTH, THREADS>(to, k, block.first, 0, k_aligned);
    copy_tile<Element, KEYS, WIDTH, THREADS>(to + KeyTile::BYTES, v, block.first, 0, v_aligned);
  };

  float output[WIDTH / 8][4], largest[2], total[2];
  clear(output);
  #pragma unroll
  for (int half = 0; half < 2; ++half) {
    largest[half] = -__builtin_inff();
    total[half] = 0.0f;
  }

  Block block = Block::begin(ranges, key_end);
  copy_tile<Element, QUERIES, DEPTH, THREADS>(queries, q, query_first, 0, is_aligned(q));
  if (block.exists()) copy_keys(block, 0);
  copy_async_commit();
  const int row = warp_index() * 16;
  for (int stage = 0; block.exists(); stage ^= 1) {
    // This block has landed for everybody, and the place of the one before is free again.
    copy_async_wait<0>();
    sync_threads();
    const Block following = block.next(ranges, key_end);
    if (following.exists()) copy_keys(following, stage ^ 1);
    copy_async_commit();

    const uint8_t* const keys = stages + stage * STAGE_BYTES;
    float scores[KEYS / 8][4];
    multiply_along<Element, QueryTile, KeyTile, DEPTH>(scores, queries, row, keys);
    const int key_count = static_cast<int>(block.count());
    float highest[2] = { largest[0], largest[1] };
    #pragma unroll
    for (int j = 0; j < KEYS / 8; ++j) {
      #pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = j * 8 + fragment_column(i);
        const bool visible = key < key_count;
        scores[j][i] = visible ? scores[j][i] * SCALE : -__builtin_inff();
        highest[i / 2] = scores[j][i] > highest[i / 2] ? scores[j][i] : highest[i / 2];
      }
    }
    float shift[2];
    #pragma unroll
    for (int half = 0; half < 2; ++half) {
      highest[half] = larger_of(highest[half], shuffle_xor(highest[half], 1));
      highest[half] = larger_of(highest[half], shuffle_xor(highest[half], 2));
      // A query that has seen no key yet has nothing to scale: -inf - -inf must not become NaN.
      shift[half] = highest[half] == -__builtin_inff() ? 0.0f : highest[half];
      const float factor = exp2_approx(largest[half] - shift[half]);
      largest[half] = highest[half];
      total[half] *= factor;
      #pragma unroll
      for (int j = 0; j < WIDTH / 8; ++j) {
        output[j][2 * half] *= factor;
        output[j][2 * half + 1] *= factor;
      }
    }
    #pragma unroll
    for (int j = 0; j < KEYS / 8; ++j) {
      #pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[j][i] = exp2_approx(scores[j][i] - shift[i / 2]);
        total[i / 2] += scores[j][i];
      }
    }
    multiply_across<Element, ValueTile, KEYS>(output, scores, keys + KeyTile::BYTES);
    block = following;
  }
  copy_async_wait<0>();

  #pragma unroll
  for (int half = 0; half < 2; ++half) {
    total[half] = reduce_lanes<Sum, 4>(total[half]);
    const int64_t query = query_first + row + fragment_row(2 * half);
    if (query < query_total) {
      // No key at all: zero, and the logarithm of zero.
      const bool none = total[half] == 0.0f;
      const float factor = none ? 0.0f : 1.0f / total[half];
      if (lane_index() % 4 == 0) y1_at[query * 16] = none ? -__builtin_inff() : largest[half] * LN_2 + log(total[half]);
      const auto to = y0_at + query * 1152;
      #pragma unroll
      for (int j = 0; j < WIDTH / 8; ++j) {
        #pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int column = j * 8 + fragment_column(i);
          if (HEAD % 8 == 0 || column < HEAD) to[column * 1] = output[j][2 * half + i] * factor;
        }
      }
    }
  }
}
}  // namespace soracc
