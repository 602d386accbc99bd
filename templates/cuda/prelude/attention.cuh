// Products of attention: a warp has 16 rows, whose scores stay in registers as fragments of 16 x 8.
#pragma once

#include "tile.cuh"

namespace soracc {

constexpr float LOG2_E = 0x1.715476p+0f, LN_2 = 0x1.62e43p-1f;

DEVICE constexpr int padded(int count, int to) { return (count + to - 1) / to * to; }

// The row of a warp's 16, and the column of a fragment's 8, of sum `i` of a fragment.
DEVICE int fragment_row(int i) { return i / 2 * 8 + lane_index() / 4; }
DEVICE int fragment_column(int i) { return lane_index() % 4 * 2 + i % 2; }

// The larger of two; a NaN is passed over, and shows in the exponential of its difference.
DEVICE float larger_of(float a, float b) { return __builtin_fmaxf(a, b); }

template <int FRAGMENTS>
DEVICE void clear(float (&d)[FRAGMENTS][4]) {
#pragma unroll
  for (int j = 0; j < FRAGMENTS; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) d[j][i] = 0.0f;
  }
}

// d = rows `row` to `row` + 16 of `left` times all FRAGMENTS * 8 rows of `right`, over DEPTH columns of both.
template <class T, class Left, class Right, int DEPTH, int FRAGMENTS>
DEVICE void multiply_along(float (&d)[FRAGMENTS][4], const uint8_t* left, int row, const uint8_t* right) {
  static_assert(FRAGMENTS % 2 == 0, "rows are loaded 16 at a time");
  clear(d);
#pragma unroll
  for (int depth = 0; depth < DEPTH; depth += Product<T>::DEPTH) {
    uint32_t a[4];
    load_left<T, Left, true>(a, left, row, depth);
#pragma unroll
    for (int j = 0; j < FRAGMENTS / 2; ++j) {
      uint32_t b[2][2];
      load_right<T, Right, true>(b, right, j * 16, depth);
      Product<T>::of(d[2 * j], a, b[0]);
      Product<T>::of(d[2 * j + 1], a, b[1]);
    }
  }
}

// One product's depth of a warp's 16 rows out of fragments in registers, rounded to T. The order of k within it is that
// of `load_rows`: a sum does not care.
template <class T, int FRAGMENTS>
DEVICE void left_of(uint32_t (&a)[4], const float (&p)[FRAGMENTS][4], int depth) {
  if constexpr (sizeof(T) == 2) {
    const int j = depth / 8;
    a[0] = Product<T>::pack(p[j][0], p[j][1]);
    a[1] = Product<T>::pack(p[j][2], p[j][3]);
    a[2] = Product<T>::pack(p[j + 1][0], p[j + 1][1]);
    a[3] = Product<T>::pack(p[j + 1][2], p[j + 1][3]);
  } else {
    const float(&q)[4] = p[depth / 8];
    a[0] = bit_cast<uint32_t>(q[0]);
    a[1] = bit_cast<uint32_t>(q[2]);
    a[2] = bit_cast<uint32_t>(q[1]);
    a[3] = bit_cast<uint32_t>(q[3]);
  }
}

// 8 columns of a tile, from row `depth` on, by one product's depth.
template <class T, class In>
DEVICE void load_rows(uint32_t (&b)[2], const uint8_t* tile, int depth, int column) {
  const int lane = lane_index();
  if constexpr (sizeof(T) == 2) {
    ldmatrix_x2_trans(b, shared_address(tile + In::offset(depth + lane % 16, column)));
  } else {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      b[i] = *reinterpret_cast<const uint32_t*>(tile + In::offset(depth + lane % 4 * 2 + i, column + lane / 4));
    }
  }
}

// d += p, 16 rows by K columns in registers, times the K rows and FRAGMENTS * 8 columns of `right`.
template <class T, class Right, int K, int FRAGMENTS>
DEVICE void multiply_across(float (&d)[FRAGMENTS][4], const float (&p)[K / 8][4], const uint8_t* right) {
#pragma unroll
  for (int depth = 0; depth < K; depth += Product<T>::DEPTH) {
    uint32_t a[4];
    left_of<T>(a, p, depth);
#pragma unroll
    for (int j = 0; j < FRAGMENTS; ++j) {
      uint32_t b[2];
      load_rows<T, Right>(b, right, depth, j * 8);
      Product<T>::of(d[j], a, b);
    }
  }
}

// --- which keys may be seen -----------------------------------------------------------------------------------------

// The valid beginnings of the segments of the keys, in order. Keys are counted in 32 bits, as the boxes of tensor maps are.
template <int COUNT>
struct Ranges {
  int32_t first[COUNT], last[COUNT];

  // Selected without an index into registers.
  SORACC_INLINE_MEMBER int32_t first_of(int range) const { return pick(first, range); }
  SORACC_INLINE_MEMBER int32_t last_of(int range) const { return pick(last, range); }

  SORACC_INLINE_MEMBER bool holds(int64_t key) const {
    bool inside = false;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) inside = inside || (key >= first[i] && key < last[i]);
    return inside;
  }

  SORACC_INLINE_MEMBER static int32_t pick(const int32_t (&values)[COUNT], int which) {
    int32_t value = values[0];
#pragma unroll
    for (int i = 1; i < COUNT; ++i) value = which == i ? values[i] : value;
    return value;
  }
};

// A block of keys on the way through all ranges, none of them past `end`.
template <int COUNT, int KEYS>
struct KeyBlock {
  int range;
  int32_t first, last;

  SORACC_INLINE_MEMBER bool exists() const { return range < COUNT; }
  SORACC_INLINE_MEMBER int32_t count() const { return last - first < KEYS ? last - first : KEYS; }

  SORACC_INLINE_MEMBER static KeyBlock begin(const Ranges<COUNT>& ranges, int32_t end) {
    KeyBlock block = { -1, 0, 0 };
    return block.next(ranges, end);
  }

  SORACC_INLINE_MEMBER KeyBlock next(const Ranges<COUNT>& ranges, int32_t end) const {
    KeyBlock block = { range, first + KEYS, last };
    while (block.first >= block.last && ++block.range < COUNT) {
      block.first = ranges.first_of(block.range);
      block.last = ranges.last_of(block.range) < end ? ranges.last_of(block.range) : end;
    }
    return block;
  }
};

}  // namespace soracc
