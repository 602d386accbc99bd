// Attention by warpgroups side by side: while one is at its exponentials, the tensor cores work for the others.
#pragma once

#include "attention.cuh"
#include "warpgroups.cuh"

namespace soracc {

// Whether any key from `first` to `last` may be seen.
template <int COUNT>
DEVICE bool meets(const Ranges<COUNT>& ranges, int64_t first, int64_t last) {
  bool any = false;
#pragma unroll
  for (int i = 0; i < COUNT; ++i) any = any || larger(ranges.first[i], first) < smaller(ranges.last[i], last);
  return any;
}

// --- operands -------------------------------------------------------------------------------------------------------

// 64 rows of a matrix as the left side of products, from row `first` on: HEAD columns, filled up with zeros to DEPTH, and
// rows of zeros from `total` on. Rows begin on 16-byte boundaries, `stride` elements apart.
template <int DEPTH, int HEAD, class Element>
DEVICE void load_rows(uint32_t (&to)[DEPTH / 16][4], const Element* from, int64_t stride, int64_t first, int64_t total) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t row = first + sum_row(2 * half);
    const Element* const at = from + row * stride + lane_index() % 4 * 2;
#pragma unroll
    for (int column = 0; column < DEPTH; column += 8) {
      const bool inside = column < HEAD && row < total;
      to[column / 16][column / 8 % 2 * 2 + half] = inside ? *reinterpret_cast<const uint32_t*>(at + column) : 0u;
    }
  }
}

// What belongs to two neighbouring columns of sums.
struct alignas(8) OfColumns {
  float even, odd;
  SORACC_INLINE_MEMBER float of(int i) const { return i % 2 == 0 ? even : odd; }
};

// Of every fourth sum, from a row of shared memory.
template <int COLUMNS>
DEVICE void load_columns(OfColumns (&to)[COLUMNS / 8], const float* row) {
#pragma unroll
  for (int i = 0; i < COLUMNS / 8; ++i) to[i] = *reinterpret_cast<const OfColumns*>(row + sum_column(4 * i));
}

// --- softmax --------------------------------------------------------------------------------------------------------

// Row `half` of this thread sees columns below limit[half]; the others become `hidden`.
template <int COLUMNS>
DEVICE void hide(float (&sums)[COLUMNS / 2], const int (&limit)[2], float hidden) {
#pragma unroll
  for (int i = 0; i < COLUMNS / 2; ++i) sums[i] = sum_column(i) < limit[i / 2 % 2] ? sums[i] : hidden;
}

// Scores become weights, 2^(scale * (score - largest)); `factor` scales what came before to the new largest score. Even
// and odd columns go separate ways as long as they can: each step of one chain waits for the one before.
template <int KEYS>
DEVICE void weigh(float (&scores)[KEYS / 2], float (&largest)[2], float (&total)[2], float (&factor)[2], float scale) {
  float shift[2], highest[4] = { largest[0], largest[0], largest[1], largest[1] };
#pragma unroll
  for (int i = 0; i < KEYS / 2; ++i) highest[i % 4] = larger_of(highest[i % 4], scores[i]);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = larger_of(highest[2 * half], highest[2 * half + 1]);
    top = larger_of(top, shuffle_xor(top, 1));
    top = larger_of(top, shuffle_xor(top, 2));
    // A query that has seen no key yet has nothing to scale: -inf - -inf must not become NaN.
    shift[half] = top == -__builtin_inff() ? 0.0f : top * scale;
    factor[half] = exp2_approx(largest[half] * scale - shift[half]);
    largest[half] = top;
  }
  float sums[4] = { total[0] * factor[0], 0.0f, total[1] * factor[1], 0.0f };
#pragma unroll
  for (int i = 0; i < KEYS / 2; ++i) {
    scores[i] = exp2_approx(scores[i] * scale - shift[i / 2 % 2]);
    sums[i % 4] += scores[i];
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) total[half] = sums[2 * half] + sums[2 * half + 1];
}

template <int COUNT>
DEVICE void scale_rows(float (&sums)[COUNT], const float (&factor)[2]) {
#pragma unroll
  for (int i = 0; i < COUNT; ++i) sums[i] *= factor[i / 2 % 2];
}

template <int COUNT>
DEVICE void clear_sums(float (&sums)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; ++i) sums[i] = 0.0f;
}

}  // namespace soracc
