// attention_forward: o = softmax(scale * q k^T + mask) v, lse = log of each row's sum of exponentials
//   x0  [batch, heads = 16, tokens, head = 72] f32
//   x1  [batch, heads = 16, keys = tokens, head = 72] f32
//   x2  [batch, heads = 16, keys = tokens, head = 72] f32
//   y0  [batch, heads = 16, tokens, head = 72] f32, written
//   y1  [batch, heads = 16, tokens] f32, written
//   x3  [batch] i32
#include "prelude.hpp"
#include "softmax.hpp"
#include "tile.hpp"

namespace {
  using Operand = float;
  // A task has QUERIES queries and walks over the keys in blocks of KEYS. Scores lie transposed, [key][query], so that
  // the softmax runs in vectors over queries. Rows of operands are ROW long, those of the output WIDTH.
  constexpr int64_t QUERIES = 48, KEYS = 96, HEAD = 72, WIDTH = 80;
  constexpr int64_t ROW = tile::whole_steps<Operand>(WIDTH);
  // What pairs of operands are packed into; floats are multiplied where they lie.
  constexpr int64_t PACKED = tile::at_a_time<Operand>() == 1 ? 0 : 1;
  // Scores are taken in units of ln 2.
  constexpr float SCALE = 0x1.e2b7dep-4f * LOG2_E;

  // What each query has seen so far: its largest score, the sum of exponentials relative to it, and its output.
  struct Online {
    float largest[QUERIES], total[QUERIES], factor[QUERIES];
    float sums[QUERIES * WIDTH];
  };

  struct Scratch {
    Online online;
    float scores[KEYS * QUERIES];
    Operand q_rows[QUERIES * ROW], q_columns[ROW * QUERIES];
    Operand k_rows[KEYS * ROW], v_rows[KEYS * ROW];
    Operand v_panel[1 + PACKED * KEYS * WIDTH], weights[1 + PACKED * 2 * KEYS * QUERIES];
  };
  static_assert(sizeof(Scratch) <= 126592, "the plan gives a thread enough memory");

  // scores = 2^(scores - largest), and what came before is scaled down to the new largest score.
  inline void exponentiate(float* scores, int64_t key_count, Online& online) {
    for (int64_t i = 0; i < QUERIES; i += LANES) {
      const Floats before = load(online.largest + i);
      Floats largest = before;
      for (int64_t key = 0; key < key_count; ++key) largest = larger_of(load(scores + key * QUERIES + i) * SCALE, largest);
      // A query that has seen no key yet has nothing to scale: -inf - -inf must not become NaN.
      const Floats shift = largest == -__builtin_inff() ? Floats{} : largest;
      const Floats factor = exp2_of_decline(before - shift);
      Floats total = load(online.total + i) * factor;
      for (int64_t key = 0; key < key_count; ++key) {
        const Floats weight = exp2_of_decline(load(scores + key * QUERIES + i) * SCALE - shift);
        store(scores + key * QUERIES + i, weight);
        total += weight;
      }
      store(online.largest + i, largest);
      store(online.factor + i, factor);
      store(online.total + i, total);
    }
  }
}  // namespace

SORACC_EXPORT void attention_forward_6ebde6b3_0(const Launch* launch, int64_t task) {
  const int64_t tokens = launch->sizes[1];
  const float* const x0 = static_cast<const float*>(launch->buffers[0]);
  const float* const x1 = static_cast<const float*>(launch->buffers[1]);
  const float* const x2 = static_cast<const float*>(launch->buffers[2]);
  float* const y0 = static_cast<float*>(launch->buffers[3]);
  float* const y1 = static_cast<float*>(launch->buffers[4]);
  const int32_t* const x3 = static_cast<const int32_t*>(launch->buffers[5]);
  const int64_t query_total = tokens;
  const int64_t query_blocks = ceil_div(query_total, QUERIES);
  const int64_t i_batch = task / (query_blocks * 16), i_heads = task / query_blocks % 16;
  const auto x0_at = x0 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x1_at = x1 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x2_at = x2 + i_batch * 1152 * tokens + i_heads * 72;
  const auto y0_at = y0 + i_batch * 1152 * tokens + i_heads * 72;
  const auto y1_at = y1 + i_batch * 16 * tokens + i_heads;
  const int64_t query_first = task % query_blocks * QUERIES;
  const int64_t query_count = smaller(QUERIES, query_total - query_first);
  // The keys that may be seen: the valid beginning of each segment.
  struct Range { int64_t first, last; };
  const Range ranges[] = {
    { 0, 0 + smaller(larger(int64_t(x3[i_batch]), 0), tokens) },
  };

  Scratch& scratch = *reinterpret_cast<Scratch*>(launch->scratch);
  Online& online = scratch.online;
  tile::copy_rows(x0_at + query_first * 1152, 1152, 1, query_count, HEAD, scratch.q_rows, ROW);
  if (query_count < QUERIES) {
    tile::clear(scratch.q_columns, ROW * QUERIES);
    tile::clear(scratch.scores, KEYS * QUERIES);
  }
  tile::panel_of_rows(scratch.q_rows, ROW, query_count, HEAD, scratch.q_columns, QUERIES);
  for (int64_t i = 0; i < QUERIES; ++i) {
    online.largest[i] = -__builtin_inff();
    online.total[i] = 0.0f;
  }
  tile::clear(online.sums, QUERIES * WIDTH);

  for (const Range& range : ranges) {
    const int64_t key_last = range.last;
    for (int64_t key_first = range.first; key_first < key_last; key_first += KEYS) {
      const int64_t key_count = smaller(KEYS, key_last - key_first);
      const auto k_block = tile::left_in_memory(x1_at + key_first * 1152, 1152, 1, key_count, HEAD, scratch.k_rows, ROW);
      tile::multiply<Operand, QUERIES>(key_count, query_count, HEAD, k_block, tile::Right<Operand>{ scratch.q_columns, QUERIES, 0 }, scratch.scores, QUERIES, false);
      exponentiate(scratch.scores, key_count, online);
      for (int64_t i = 0; i < query_count; ++i) {
        #pragma omp simd
        for (int64_t c = 0; c < WIDTH; ++c) online.sums[i * WIDTH + c] *= online.factor[i];
      }
      const auto weights = tile::left_of_sum_steps(scratch.scores, QUERIES, query_count, key_count, scratch.weights);
      const auto v_block = tile::right_in_memory(x2_at + key_first * 1152, 1152, 1, key_count, HEAD, WIDTH, scratch.v_rows, ROW, scratch.v_panel);
      tile::multiply<Operand, WIDTH>(query_count, HEAD, key_count, weights, v_block, online.sums, WIDTH, true);
    }
  }

  for (int64_t i = 0; i < query_count; ++i) {
    // No key at all: zero, and the logarithm of zero.
    const int64_t query = query_first + i;
    const bool none = online.total[i] == 0.0f;
    y1_at[query * 16] = none ? -__builtin_inff() : online.largest[i] * LN_2 + log(online.total[i]);
    tile::narrow(online.sums + i * WIDTH, WIDTH, 1, HEAD, none ? 0.0f : 1.0f / online.total[i], y0_at + query * 1152, 1152, 1);
  }
}
