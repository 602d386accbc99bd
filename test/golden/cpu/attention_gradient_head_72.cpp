// attentiongradient_gradient: dv = p^T do, ds = p * (do v^T - rowsum(do * o)), dq = scale * ds k, dk = scale * ds^T q
//   x0  [batch, heads = 16, tokens, head = 72] f32
//   x1  [batch, heads = 16, keys = tokens, head = 72] f32
//   x2  [batch, heads = 16, keys = tokens, head = 72] f32
//   x3  [batch, heads = 16, tokens, head = 72] f32
//   x4  [batch, heads = 16, tokens] f32
//   x5  [batch, heads = 16, tokens, head = 72] f32
//   y0  [batch, heads = 16, tokens, head = 72] f32, written
//   y1  [batch, heads = 16, keys = tokens, head = 72] f32, written
//   y2  [batch, heads = 16, keys = tokens, head = 72] f32, written
//   x6  [batch] i32
#include "prelude.hpp"
#include "softmax.hpp"
#include "tile.hpp"

namespace {
  // A task owns a chunk of the keys of one head: it writes their dk and dv, and its share of dq for every query. Weights
  // are recomputed from lse; each pair of a query block and a key block takes five products:
  //     p = exp(q k^T - lse),  dv += p^T do,  ds = p * (do v^T - delta),  dk += ds^T q,  dq += ds k
  // where delta = sum of do * o over the head. Scores lie transposed, [key][query], in units of ln 2. Heads alone usually
  // make enough tasks, and the chunk is all keys; else the shares of dq are added in order, in a phase of their own.
  using Operand = float;
  // Rows of operands are ROW long, those of gradients WIDTH.
  constexpr int64_t QUERIES = 48, KEYS = 96, HEAD = 72, WIDTH = 80;
  constexpr int64_t ROW = tile::whole_steps<Operand>(WIDTH);
  // What pairs of operands are packed into; floats are multiplied where they lie.
  constexpr int64_t PACKED = tile::at_a_time<Operand>() == 1 ? 0 : 1;
  constexpr float SCALE = 0x1.e2b7dep-4f;

  struct Scratch {
    // The pair of blocks: weights p, then ds.
    float weights[KEYS * QUERIES], ds[KEYS * QUERIES];
    // What belongs to each query of the block.
    float o_row[WIDTH], lse[QUERIES], delta[QUERIES], dq[QUERIES * WIDTH];
    // The query block: q and do as they are and transposed.
    Operand q_rows[QUERIES * ROW], q_columns[ROW * QUERIES], do_rows[QUERIES * ROW], do_columns[ROW * QUERIES];
    Operand q_panel[1 + PACKED * QUERIES * WIDTH], do_panel[1 + PACKED * QUERIES * WIDTH], k_panel[1 + PACKED * KEYS * WIDTH];
    Operand p_left[1 + PACKED * KEYS * QUERIES], ds_left[1 + PACKED * KEYS * QUERIES], ds_columns[1 + PACKED * 2 * KEYS * QUERIES];
  };
  static_assert(sizeof(Scratch) <= 114432, "the plan gives a thread enough memory");

  // p = 2^(scores - lse) and ds = p * (dp - delta), in place of scores and dp.
  inline void differentiate(float* scores, float* dp, int64_t key_count, const float* lse, const float* delta) {
    for (int64_t i = 0; i < QUERIES; i += LANES) {
      const Floats lse_here = load(lse + i), delta_here = load(delta + i);
      for (int64_t key = 0; key < key_count; ++key) {
        const Floats p = exp2_of_decline(load(scores + key * QUERIES + i) * (SCALE * LOG2_E) - lse_here);
        store(scores + key * QUERIES + i, p);
        store(dp + key * QUERIES + i, p * (load(dp + key * QUERIES + i) - delta_here));
      }
    }
  }
}  // namespace

SORACC_EXPORT void attentiongradient_gradient_11a82cb1_0(const Launch* launch, int64_t task) {
  const int64_t batch = launch->sizes[0];
  const int64_t tokens = launch->sizes[1];
  const float* const x0 = static_cast<const float*>(launch->buffers[0]);
  const float* const x1 = static_cast<const float*>(launch->buffers[1]);
  const float* const x2 = static_cast<const float*>(launch->buffers[2]);
  const float* const x3 = static_cast<const float*>(launch->buffers[3]);
  const float* const x4 = static_cast<const float*>(launch->buffers[4]);
  const float* const x5 = static_cast<const float*>(launch->buffers[5]);
  float* const y0 = static_cast<float*>(launch->buffers[6]);
  float* const y1 = static_cast<float*>(launch->buffers[7]);
  float* const y2 = static_cast<float*>(launch->buffers[8]);
  const int32_t* const x6 = static_cast<const int32_t*>(launch->buffers[9]);
  const int64_t query_total = tokens, key_total = tokens;
  const int64_t chunks = larger(1, smaller(floor_div((15 + 16 * batch), 16 * batch), floor_div(tokens, 128))), chunk_keys = ceil_div(key_total, chunks);
  const int64_t i_batch = task / (chunks * 16), i_heads = task / chunks % 16;
  const auto x0_at = x0 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x1_at = x1 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x2_at = x2 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x3_at = x3 + i_batch * 1152 * tokens + i_heads * 72;
  const auto x4_at = x4 + i_batch * 16 * tokens + i_heads;
  const auto x5_at = x5 + i_batch * 1152 * tokens + i_heads * 72;
  const auto y0_at = y0 + i_batch * 1152 * tokens + i_heads * 72;
  const auto y1_at = y1 + i_batch * 1152 * tokens + i_heads * 72;
  const auto y2_at = y2 + i_batch * 1152 * tokens + i_heads * 72;
  const int64_t chunk_first = task % chunks * chunk_keys;
  const int64_t chunk_count = larger(0, smaller(chunk_keys, key_total - chunk_first));
  // The keys that may be seen: the valid beginning of each segment.
  struct Range { int64_t first, last; };
  const Range ranges[] = {
    { 0, 0 + smaller(larger(int64_t(x6[i_batch]), 0), tokens) },
  };

  Scratch& scratch = *reinterpret_cast<Scratch*>(launch->scratch);
  float* const dk_rows = reinterpret_cast<float*>(launch->scratch + 114432);
  float* const dv_rows = dk_rows + (chunk_keys + 16) * WIDTH;
  Operand* const k_rows = reinterpret_cast<Operand*>(dv_rows + (chunk_keys + 16) * WIDTH);
  Operand* const v_rows = k_rows + (chunk_keys + 16) * ROW;
  for (const Range& range : ranges) {
    const int64_t first = larger(range.first, chunk_first), last = smaller(range.last, chunk_first + chunk_count);
    if (first >= last) continue;
    tile::copy_rows(x1_at + first * 1152, 1152, 1, last - first, HEAD, k_rows + (first - chunk_first) * ROW, ROW);
    tile::copy_rows(x2_at + first * 1152, 1152, 1, last - first, HEAD, v_rows + (first - chunk_first) * ROW, ROW);
  }
  tile::clear(dk_rows, chunk_count * WIDTH);
  tile::clear(dv_rows, chunk_count * WIDTH);

  for (int64_t query_first = 0; query_first < query_total; query_first += QUERIES) {
    const int64_t query_count = smaller(QUERIES, query_total - query_first);
    tile::copy_rows(x0_at + query_first * 1152, 1152, 1, query_count, HEAD, scratch.q_rows, ROW);
    tile::copy_rows(x5_at + query_first * 1152, 1152, 1, query_count, HEAD, scratch.do_rows, ROW);
    if (query_count < QUERIES) {
      tile::clear(scratch.q_columns, ROW * QUERIES);
      tile::clear(scratch.do_columns, ROW * QUERIES);
      tile::clear(scratch.weights, KEYS * QUERIES);
      tile::clear(scratch.ds, KEYS * QUERIES);
    }
    tile::panel_of_rows(scratch.q_rows, ROW, query_count, HEAD, scratch.q_columns, QUERIES);
    tile::panel_of_rows(scratch.do_rows, ROW, query_count, HEAD, scratch.do_columns, QUERIES);
    const auto q_block = tile::right_of_steps(scratch.q_rows, ROW, query_count, WIDTH, scratch.q_panel);
    const auto do_block = tile::right_of_steps(scratch.do_rows, ROW, query_count, WIDTH, scratch.do_panel);
    for (int64_t i = 0; i < QUERIES; ++i) {
      float total = -__builtin_inff(), product = 0.0f;
      if (i < query_count) {
        tile::widen(x3_at + (query_first + i) * 1152, 1152, 1, 1, HEAD, 1.0f, scratch.o_row, WIDTH);
        #pragma omp simd reduction(+ : product)
        for (int64_t c = 0; c < WIDTH; ++c) product += scratch.o_row[c] * static_cast<float>(scratch.do_rows[i * ROW + c]);
        total = x4_at[(query_first + i) * 16];
      }
      scratch.delta[i] = product;
      // A query without keys, or past the end: infinity makes its weights zero.
      scratch.lse[i] = total == -__builtin_inff() ? __builtin_inff() : total * LOG2_E;
    }
    tile::clear(scratch.dq, QUERIES * WIDTH);

    for (const Range& range : ranges) {
      const int64_t key_last = smaller(range.last, chunk_first + chunk_count);
      for (int64_t key_first = larger(range.first, chunk_first); key_first < key_last; key_first += KEYS) {
        const int64_t key_count = smaller(KEYS, key_last - key_first), row = key_first - chunk_first;
        const tile::Left<Operand> k_block = { k_rows + row * ROW, ROW, 1 }, v_block = { v_rows + row * ROW, ROW, 1 };
        tile::multiply<Operand, QUERIES>(key_count, query_count, HEAD, k_block, tile::Right<Operand>{ scratch.q_columns, QUERIES, 0 }, scratch.weights, QUERIES, false);
        tile::multiply<Operand, QUERIES>(key_count, query_count, HEAD, v_block, tile::Right<Operand>{ scratch.do_columns, QUERIES, 0 }, scratch.ds, QUERIES, false);
        differentiate(scratch.weights, scratch.ds, key_count, scratch.lse, scratch.delta);
        const auto p_block = tile::left_of_sums(scratch.weights, QUERIES, key_count, query_count, scratch.p_left);
        const auto ds_block = tile::left_of_sums(scratch.ds, QUERIES, key_count, query_count, scratch.ds_left);
        const auto ds_columns = tile::left_of_sum_steps(scratch.ds, QUERIES, query_count, key_count, scratch.ds_columns);
        const auto k_panel = tile::right_of_steps(k_rows + row * ROW, ROW, key_count, WIDTH, scratch.k_panel);
        tile::multiply<Operand, WIDTH>(key_count, HEAD, query_count, p_block, do_block, dv_rows + row * WIDTH, WIDTH, true);
        tile::multiply<Operand, WIDTH>(key_count, HEAD, query_count, ds_block, q_block, dk_rows + row * WIDTH, WIDTH, true);
        tile::multiply<Operand, WIDTH>(query_count, HEAD, key_count, ds_columns, k_panel, scratch.dq, WIDTH, true);
      }
    }
    if (chunks > 1) {
      float* const share = static_cast<float*>(launch->buffers[10]) + (task * query_total + query_first) * WIDTH;
      tile::accumulate(share, scratch.dq, query_count * WIDTH, false);
      continue;
    }
    tile::narrow(scratch.dq, WIDTH, query_count, HEAD, SCALE, y0_at + query_first * 1152, 1152, 1);
  }

  tile::narrow(dk_rows, WIDTH, chunk_count, HEAD, SCALE, y1_at + chunk_first * 1152, 1152, 1);
  tile::narrow(dv_rows, WIDTH, chunk_count, HEAD, 1.0f, y2_at + chunk_first * 1152, 1152, 1);
}

// dq of one query block: the shares of all chunks, always in the same order.
SORACC_EXPORT void attentiongradient_gradient_11a82cb1_1(const Launch* launch, int64_t task) {
  const int64_t batch = launch->sizes[0];
  const int64_t tokens = launch->sizes[1];
  float* const y0 = static_cast<float*>(launch->buffers[6]);
  const int64_t query_total = tokens, chunks = larger(1, smaller(floor_div((15 + 16 * batch), 16 * batch), floor_div(tokens, 128)));
  const int64_t query_blocks = ceil_div(query_total, QUERIES);
  const int64_t i_batch = task / (query_blocks * 16), i_heads = task / query_blocks % 16;
  const auto y0_at2 = y0 + i_batch * 1152 * tokens + i_heads * 72;
  const int64_t query_first = task % query_blocks * QUERIES;
  const int64_t query_count = smaller(QUERIES, query_total - query_first);
  Scratch& scratch = *reinterpret_cast<Scratch*>(launch->scratch);
  const float* const shares = static_cast<const float*>(launch->buffers[10]) + task / query_blocks * chunks * query_total * WIDTH;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    tile::accumulate(scratch.dq, shares + (chunk * query_total + query_first) * WIDTH, query_count * WIDTH, chunk > 0);
  }
  tile::narrow(scratch.dq, WIDTH, query_count, HEAD, SCALE, y0_at2 + query_first * 1152, 1152, 1);
}
