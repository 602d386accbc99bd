// Products of bfloat16. Where the machine knows them they are multiplied in pairs along k, else they are widened when
// they are packed, and multiplied as floats: `Narrow` is what a packed element is.
//
//   AMX         tiles of 16 rows of 64 bytes: 32 steps of k at a time
//   VDPBF16PS   vectors of pairs: 2 steps of k at a time
//
// A block of the left side has rows of k; without AMX it may also have a row of pairs for every two steps. A panel of the
// right side has a row for every pair of steps, in which the two elements of a column lie side by side. Steps past the end
// of k are zeros.
#pragma once

#include "tile.hpp"
#if defined(SORACC_AMX)
#include "amx.hpp"
#endif

namespace soracc::tile {

#if defined(SORACC_AMX) || defined(SORACC_VDPBF16PS)
using Narrow = bf16;

#if defined(SORACC_AMX)
constexpr int64_t STEPS = 32;
#else
constexpr int64_t STEPS = 2;
#endif

template <>
constexpr int64_t at_a_time<bf16>() {
  return STEPS;
}

typedef Vector<uint32_t> Words;
typedef uint16_t Halves __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef uint16_t HalvesInMemory __attribute__((vector_size(VECTOR_BYTES / 2), aligned(2), may_alias));

// LANES elements of each of two steps, as pairs.
SORACC_INLINE Words::Value pair_up(const bf16* even, const bf16* odd) {
  const Halves low = *reinterpret_cast<const HalvesInMemory*>(even);
  const Halves high = *reinterpret_cast<const HalvesInMemory*>(odd);
  return __builtin_convertvector(low, Words::Value) | (__builtin_convertvector(high, Words::Value) << 16);
}

SORACC_INLINE void clear_steps(bf16* row, int64_t depth) {
  for (int64_t k = depth; k < whole_steps<bf16>(depth); ++k) row[k].bits = 0;
}

inline Left<bf16> left_of_rows(bf16* rows, int64_t stride, int64_t count, int64_t depth) {
  for (int64_t r = 0; r < count; ++r) clear_steps(rows + r * stride, depth);
  return {rows, stride, 1};
}

// Turned into rows, which begin at `to`. The block has whole vectors of rows: what lies past the last one is anything.
inline Left<bf16> left_of_steps(const bf16* steps, int64_t stride, int64_t rows, int64_t depth, bf16* to) {
  constexpr int LANES = Words::LANES;
  const int64_t row = whole_steps<bf16>(depth) + LINE / sizeof(bf16);
  static const bf16 zeros[LANES] = {};
  for (int64_t r = 0; r < rows; r += LANES) {
    for (int64_t k = 0; k < depth; k += 2 * LANES) {
      Vector<float>::Value square[LANES];
      SORACC_UNROLL for (int i = 0; i < LANES; ++i) {
        const bf16* const at = steps + (k + 2 * i) * stride + r;
        square[i] = (Vector<float>::Value)pair_up(k + 2 * i < depth ? at : zeros, k + 2 * i + 1 < depth ? at + stride : zeros);
      }
      transpose_square(square);
      const int64_t bytes = smaller(2 * LANES, whole_steps<bf16>(depth) - k) * sizeof(bf16);
      for (int i = 0; i < LANES; ++i) __builtin_memcpy(to + (r + i) * row + k, &square[i], bytes);
    }
    for (int i = 0; i < LANES; ++i) clear_steps(to + (r + i) * row, depth);
  }
  return {to, row, 1};
}

inline void panel_of_steps(const bf16* steps, int64_t stride, int64_t depth, int64_t width, bf16* panel) {
  constexpr int LANES = Words::LANES;
  uint32_t* const pairs = reinterpret_cast<uint32_t*>(panel);
  static const bf16 zeros[LANES] = {};
  for (int64_t k = 0; k < whole_steps<bf16>(depth); k += 2) {
    for (int64_t n = 0; n < width; n += LANES) {
      const bf16* const at = steps + k * stride + n;
      const Words::Value both = pair_up(k < depth ? at : zeros, k + 1 < depth ? at + stride : zeros);
      Words::store(pairs + k / 2 * width + n, both);
    }
  }
}

inline Right<bf16> right_of_steps(const bf16* steps, int64_t stride, int64_t depth, int64_t width, bf16* panel) {
  panel_of_steps(steps, stride, depth, width, panel);
  return {panel, width, 0};
}

inline void panel_of_rows(bf16* rows, int64_t stride, int64_t columns, int64_t depth, bf16* panel, int64_t width) {
  for (int64_t n = 0; n < columns; ++n) clear_steps(rows + n * stride, depth);
  transpose(reinterpret_cast<const float*>(rows), stride / 2, columns, whole_steps<bf16>(depth) / 2,
            reinterpret_cast<float*>(panel), width);
}

// Two vectors of sums as pairs: the lanes of `even` are the first elements.
SORACC_INLINE Words::Value pair_sums(Vector<float>::Value even, Vector<float>::Value odd) {
  const auto rounded = [](Vector<float>::Value value) {
    const Words::Value word = (Words::Value)value;
    return word + 0x7fffu + ((word >> 16) & 1u); // a NaN of these sums has its quiet bit: it stays one
  };
  return (rounded(even) >> 16) | (rounded(odd) & 0xffff0000u);
}

// What an AMX tile reads of a left side, and writes of its products: rows come by sixteen.
#if defined(SORACC_AMX)
constexpr int64_t ROWS_AT_A_TIME = 16;
#else
constexpr int64_t ROWS_AT_A_TIME = 1;
#endif

// Rows of sums as a left side: at `to`, rows of zeros up to the last that is read.
inline Left<bf16> left_of_sums(const float* rows, int64_t stride, int64_t count, int64_t depth, bf16* to) {
  const int64_t row = whole_steps<bf16>(depth);
  for (int64_t r = 0; r < padded(count, ROWS_AT_A_TIME); ++r) {
    bf16* __restrict__ const target = to + r * row;
    if (r < count) {
      const float* const source = rows + r * stride;
#pragma omp simd
      for (int64_t k = 0; k < depth; ++k) target[k] = source[k];
    }
    for (int64_t k = r < count ? depth : 0; k < row; ++k) target[k].bits = 0;
  }
  return {to, row, 1};
}

// The same for steps of sums. The rows of the left side are whole vectors: what lies past the last one is anything.
inline Left<bf16> left_of_sum_steps(const float* steps, int64_t stride, int64_t rows, int64_t depth, bf16* to) {
  using Lanes = Vector<float>;
  uint32_t* const pairs = reinterpret_cast<uint32_t*>(to);
  const int64_t width = padded(rows, Lanes::LANES);
  for (int64_t k = 0; k < depth; k += 2) {
    for (int64_t r = 0; r < rows; r += Lanes::LANES) {
      const float* const at = steps + k * stride + r;
      const Lanes::Value odd = k + 1 < depth ? Lanes::load(at + stride) : Lanes::Value{};
      Words::store(pairs + k / 2 * width + r, pair_sums(Lanes::load(at), odd));
    }
  }
#if defined(SORACC_AMX)
  for (int64_t k = padded(depth, 2) / 2; k < whole_steps<bf16>(depth) / 2; ++k) {
    for (int64_t r = 0; r < width; ++r) pairs[k * width + r] = 0;
  }
  bf16* const turned = to + whole_steps<bf16>(depth) * width;
  const int64_t row = whole_steps<bf16>(depth);
  transpose(reinterpret_cast<const float*>(pairs), width, row / 2, width, reinterpret_cast<float*>(turned), row / 2);
  return {turned, row, 1};
#else
  return {to, 2, width};
#endif
}

inline void copy_rows(const bf16* from, int64_t row, int64_t step, int64_t rows, int64_t columns, bf16* to, int64_t to_row) {
  for (int64_t r = 0; r < rows; ++r) {
    bf16* __restrict__ const target = to + r * to_row;
    const bf16* const source = from + r * row;
    for (int64_t c = 0; c < columns; ++c) target[c].bits = source[c * step].bits;
    for (int64_t c = columns; c < to_row; ++c) target[c].bits = 0;
  }
}

inline Left<bf16> left_in_memory(const bf16* from, int64_t row, int64_t step, int64_t rows, int64_t columns, bf16* to,
                                 int64_t to_row) {
  const bool fits = step == 1 && row % 2 == 0 && columns % STEPS == 0 && rows % ROWS_AT_A_TIME == 0;
  if (fits) return {from, row, 1};
  copy_rows(from, row, step, rows, columns, to, to_row);
  return {to, to_row, 1};
}

inline Right<bf16> right_in_memory(const bf16* from, int64_t row, int64_t step, int64_t depth, int64_t columns,
                                   int64_t width, bf16* to, int64_t to_row, bf16* panel) {
  if (step == 1 && columns == width) return right_of_steps(from, row, depth, width, panel);
  copy_rows(from, row, step, depth, columns, to, to_row);
  return right_of_steps(to, to_row, depth, width, panel);
}

#if !defined(SORACC_AMX)

// sums += the products of both elements of a pair, each times the same pair of the left side.
SORACC_INLINE void add_products(Vector<float>::Value& sums, Words::Value left, Words::Value right) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(left), "v"(right));
}

// R rows and V vectors of c, in registers from the first pair of k to the last.
template <int R, int V>
__attribute__((noinline)) void pair_block(int64_t pairs, const uint32_t* a, int64_t a_row, int64_t a_step,
                                          const uint32_t* b, int64_t step, float* c, int64_t row, bool accumulate) {
  using Lanes = Vector<float>;
  Lanes::Value sums[R][V];
  SORACC_UNROLL for (int r = 0; r < R; ++r) {
    SORACC_UNROLL for (int v = 0; v < V; ++v) sums[r][v] = Lanes::Value{};
  }
  if (accumulate) {
    SORACC_UNROLL for (int r = 0; r < R; ++r) {
      SORACC_UNROLL for (int v = 0; v < V; ++v) sums[r][v] = Lanes::load(c + r * row + v * Lanes::LANES);
    }
  }
  for (int64_t k = 0; k < pairs; ++k) {
    Words::Value columns[V];
    SORACC_UNROLL for (int v = 0; v < V; ++v) columns[v] = Words::load(b + v * Words::LANES);
    SORACC_UNROLL for (int r = 0; r < R; ++r) {
      const Words::Value pair = Words::Value{} + a[r * a_row];
      SORACC_UNROLL for (int v = 0; v < V; ++v) add_products(sums[r][v], pair, columns[v]);
    }
    a += a_step;
    b += step;
  }
  SORACC_UNROLL for (int r = 0; r < R; ++r) {
    SORACC_UNROLL for (int v = 0; v < V; ++v) Lanes::store(c + r * row + v * Lanes::LANES, sums[r][v]);
  }
}

template <int V>
void pair_columns(int64_t rows, int64_t pairs, const uint32_t* a, int64_t a_row, int64_t a_step, const uint32_t* b,
                  int64_t step, float* c, int64_t row, bool accumulate) {
  const auto take = [&](auto block, int count) {
    block(pairs, a, a_row, a_step, b, step, c, row, accumulate);
    a += count * a_row;
    c += count * row;
    rows -= count;
  };
  while (rows >= 8) take(pair_block<8, V>, 8);
  if (rows >= 4) take(pair_block<4, V>, 4);
  if (rows >= 2) take(pair_block<2, V>, 2);
  if (rows >= 1) take(pair_block<1, V>, 1);
}

template <class T, int64_t PANEL>
void multiply(int64_t rows, int64_t columns, int64_t depth, Left<bf16> a, Right<bf16> b, float* c, int64_t row,
              bool accumulate) {
  constexpr int LANES = Words::LANES;
  static_assert(PANEL % LANES == 0, "panels are whole vectors");
  const uint32_t* const left = reinterpret_cast<const uint32_t*>(a.at);
  const int64_t pairs = whole_steps<bf16>(depth) / 2;
  for (int64_t n = 0; n < columns;) {
    const uint32_t* const right = reinterpret_cast<const uint32_t*>(b.at + n / PANEL * b.panel) + n % PANEL;
    const int64_t width = smaller(columns, n / PANEL * PANEL + PANEL) - n;
    if (width > LANES) {
      pair_columns<2>(rows, pairs, left, a.row / 2, a.step, right, b.step, c + n, row, accumulate);
      n += 2 * LANES;
    } else {
      pair_columns<1>(rows, pairs, left, a.row / 2, a.step, right, b.step, c + n, row, accumulate);
      n += LANES;
    }
  }
}

#else

// A tile of c, 16 rows of 16 sums; two by two of them are kept in registers along k.
template <class T, int64_t PANEL>
void multiply(int64_t rows, int64_t columns, int64_t depth, Left<bf16> a, Right<bf16> b, float* c, int64_t row,
              bool accumulate) {
  static_assert(PANEL % 16 == 0, "panels are whole tiles");
  const amx::Session session;
  const int64_t steps = whole_steps<bf16>(depth) / STEPS;
  for (int64_t n = 0; n < columns;) {
    const bf16* const right = b.at + n / PANEL * b.panel + 2 * (n % PANEL);
    const int64_t width = smaller(columns, n / PANEL * PANEL + PANEL) - n;
    for (int64_t m = 0; m < rows; m += 32) {
      amx::block(rows - m > 16, width > 16, steps, a.at + m * a.row, a.row, right, b.step, c + m * row + n, row, accumulate);
    }
    n += width > 16 ? 32 : 16;
  }
}

#endif

#else
using Narrow = float;
#endif

}  // namespace soracc::tile
