// Products of matrices by warps: tiles in shared memory that copies fill while the warps multiply.
//
// A matrix lies row by row, `stride` elements apart. A side of a product is such a matrix in one of two directions:
// along depth (one row per row or column of the product, k runs along it) or across (one row per step of k).
// ldmatrix reads eight rows of one column of 16-byte chunks at a time, which must lie in different banks: chunks of a
// tile are swizzled where their number allows it, else rows are an odd number of chunks apart.
#pragma once

#include "block.cuh"

namespace soracc {

template <class T>
struct Matrix {
  const T* at;
  int64_t stride;
  int64_t rows, columns;
  // From one element of a row to the next.
  int64_t step = 1;
};

template <class A, class B>
constexpr bool same_type = false;
template <class A>
constexpr bool same_type<A, A> = true;

// --- element types --------------------------------------------------------------------------------------------------

// What the tensor cores make of T: elements along k of one product, and the product itself. Floats are the sum of a
// large and a small tf32 part, of which the three products that matter are taken: as exact as float products.
template <class T>
struct Product;

template <>
struct Product<bf16> {
  static constexpr int DEPTH = 16;
  DEVICE void of(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mma_bf16(d, a, b); }
  DEVICE uint32_t pack(float low, float high) { return pack_bf16(low, high); }
};

template <>
struct Product<f16> {
  static constexpr int DEPTH = 16;
  DEVICE void of(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mma_f16(d, a, b); }
  DEVICE uint32_t pack(float low, float high) { return pack_f16(low, high); }
};

template <>
struct Product<float> {
  static constexpr int DEPTH = 8;

  template <int COUNT>
  DEVICE void split(const uint32_t (&whole)[COUNT], uint32_t (&large)[COUNT], uint32_t (&small)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      large[i] = to_tf32(bit_cast<float>(whole[i]));
      small[i] = to_tf32(bit_cast<float>(whole[i]) - bit_cast<float>(large[i]));
    }
  }

  DEVICE void of(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    uint32_t a_large[4], a_small[4], b_large[2], b_small[2];
    split(a, a_large, a_small);
    split(b, b_large, b_small);
    mma_tf32(d, a_small, b_large);
    mma_tf32(d, a_large, b_small);
    mma_tf32(d, a_large, b_large);
  }
};

// --- tiles ----------------------------------------------------------------------------------------------------------

template <class T, int ROWS, int COLUMNS>
struct Tile {
  static constexpr int PER_CHUNK = 16 / sizeof(T);
  static constexpr int CHUNKS = COLUMNS / PER_CHUNK;
  static constexpr bool SWIZZLED = CHUNKS % 8 == 0 || 8 % CHUNKS == 0;
  static constexpr int PITCH = SWIZZLED ? CHUNKS : CHUNKS | 1;
  static constexpr int BYTES = ROWS * PITCH * 16;
  static_assert(COLUMNS % PER_CHUNK == 0, "rows are whole chunks");

  // Bytes from the start of the tile to an element.
  DEVICE uint32_t offset(int row, int column) {
    constexpr int SPREAD = CHUNKS >= 8 ? 8 : CHUNKS;
    const int swizzle = SWIZZLED ? row / (8 / SPREAD) % SPREAD : 0;
    const int chunk = row * PITCH + ((column / PER_CHUNK) ^ swizzle);
    return static_cast<uint32_t>(chunk * 16 + column % PER_CHUNK * int(sizeof(T)));
  }
};

// The part of a matrix from (first_row, first_column) on, zeros beyond its end, by all THREADS of the block. The copies
// are asynchronous where rows begin on 16-byte boundaries (`aligned`), else they are plain loads and stores.
template <class T, int ROWS, int COLUMNS, int THREADS, class From>
DEVICE void copy_tile(uint8_t* to, const Matrix<From>& from, int64_t first_row, int64_t first_column, bool aligned) {
  using Here = Tile<T, ROWS, COLUMNS>;
  constexpr int TOTAL = ROWS * Here::CHUNKS;
#pragma unroll
  for (int first = 0; first < TOTAL; first += THREADS) {
    const int index = first + thread_index();
    if (TOTAL % THREADS != 0 && index >= TOTAL) break;
    const int row = index / Here::CHUNKS, column = index % Here::CHUNKS * Here::PER_CHUNK;
    const int64_t left = from.columns - (first_column + column);
    const bool inside = first_row + row < from.rows && left > 0;
    const int count = inside ? static_cast<int>(smaller(left, Here::PER_CHUNK)) : 0;
    const From* const source = inside ? from.at + (first_row + row) * from.stride + (first_column + column) * from.step : from.at;
    uint8_t* const place = to + Here::offset(row, column);
    if (same_type<T, From> && aligned) {
      copy_async_16(shared_address(place), source, static_cast<uint32_t>(count * sizeof(T)));
    } else {
#pragma unroll 1
      for (int i = 0; i < Here::PER_CHUNK; ++i) {
        T element;
        element = i < count ? static_cast<float>(source[i * from.step]) : 0.0f;
        reinterpret_cast<T*>(place)[i] = element;
      }
    }
  }
}

template <class T>
DEVICE bool is_aligned(const Matrix<T>& matrix) {
  const uint64_t bits = reinterpret_cast<uint64_t>(matrix.at) | static_cast<uint64_t>(matrix.stride * int64_t(sizeof(T)));
  return (bits & 15u) == 0u && matrix.step == 1;
}

// 16 rows of a (along m) by one product's depth. ALONG: the tile's rows are rows of a; else they are steps of k.
template <class T, class In, bool ALONG>
DEVICE void load_left(uint32_t (&a)[4], const uint8_t* tile, int row, int depth) {
  constexpr int HALF = Product<T>::DEPTH / 2;
  const int lane = lane_index(), matrix = lane / 8, line = lane % 8;
  if constexpr (ALONG) {
    ldmatrix_x4(a, shared_address(tile + In::offset(row + matrix % 2 * 8 + line, depth + matrix / 2 * HALF)));
  } else if constexpr (sizeof(T) == 2) {
    ldmatrix_x4_trans(a, shared_address(tile + In::offset(depth + matrix / 2 * HALF + line, row + matrix % 2 * 8)));
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a[i] = *reinterpret_cast<const uint32_t*>(tile + In::offset(depth + i / 2 * HALF + lane % 4, row + i % 2 * 8 + lane / 4));
    }
  }
}

// 16 columns of b (along n), as two fragments of 8, by one product's depth.
template <class T, class In, bool ALONG>
DEVICE void load_right(uint32_t (&b)[2][2], const uint8_t* tile, int column, int depth) {
  constexpr int HALF = Product<T>::DEPTH / 2;
  const int lane = lane_index(), matrix = lane / 8, line = lane % 8;
  uint32_t both[4];
  if constexpr (ALONG) {
    ldmatrix_x4(both, shared_address(tile + In::offset(column + matrix / 2 * 8 + line, depth + matrix % 2 * HALF)));
  } else if constexpr (sizeof(T) == 2) {
    ldmatrix_x4_trans(both, shared_address(tile + In::offset(depth + matrix % 2 * HALF + line, column + matrix / 2 * 8)));
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      both[i] = *reinterpret_cast<const uint32_t*>(tile + In::offset(depth + i % 2 * HALF + lane % 4, column + i / 2 * 8 + lane / 4));
    }
  }
  b[0][0] = both[0], b[0][1] = both[1], b[1][0] = both[2], b[1][1] = both[3];
}

// --- the product of two matrices ------------------------------------------------------------------------------------

// How a block of warps shares a product of ROWS x COLUMNS: warps stand in a grid of WARP_ROWS x WARP_COLUMNS, and copies
// run STAGES - 1 tiles ahead. LEFT and RIGHT tell whether the matrix runs along depth.
template <class Element, int ROWS_, int COLUMNS_, int WARP_ROWS, int WARP_COLUMNS, bool LEFT, bool RIGHT>
struct BlockProduct {
  static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, STAGES = 4;
  static constexpr int DEPTH = 64 / sizeof(Element);
  static constexpr int THREADS = WARP_ROWS * WARP_COLUMNS * WARP;
  // What a warp has: fragments of 16 rows and of 8 columns.
  static constexpr int ROW_FRAGMENTS = ROWS / WARP_ROWS / 16, COLUMN_FRAGMENTS = COLUMNS / WARP_COLUMNS / 8;
  static_assert(ROW_FRAGMENTS * WARP_ROWS * 16 == ROWS && COLUMN_FRAGMENTS * WARP_COLUMNS * 8 == COLUMNS, "whole fragments");
  static_assert(COLUMN_FRAGMENTS % 2 == 0, "columns are loaded 16 at a time");

  using LeftTile = Tile<Element, LEFT ? ROWS : DEPTH, LEFT ? DEPTH : ROWS>;
  using RightTile = Tile<Element, RIGHT ? COLUMNS : DEPTH, RIGHT ? DEPTH : COLUMNS>;
  static constexpr int STAGE_BYTES = LeftTile::BYTES + RightTile::BYTES;
  // The sums on their way to memory, in rows of PITCH floats.
  static constexpr int PITCH = COLUMNS + 8;
  static constexpr int SUM_BYTES = ROWS * PITCH * 4;
  static constexpr int SHARED_BYTES = STAGES * STAGE_BYTES > SUM_BYTES ? STAGES * STAGE_BYTES : SUM_BYTES;

  float sums[ROW_FRAGMENTS][COLUMN_FRAGMENTS][4];

  // The row and the column, within the block, of sum `i` of a fragment.
  SORACC_INLINE_MEMBER static int row_of(int fragment, int i) {
    return (warp_index() / WARP_COLUMNS * ROW_FRAGMENTS + fragment) * 16 + i / 2 * 8 + lane_index() / 4;
  }
  SORACC_INLINE_MEMBER static int column_of(int fragment, int i) {
    return (warp_index() % WARP_COLUMNS * COLUMN_FRAGMENTS + fragment) * 8 + lane_index() % 4 * 2 + i % 2;
  }

  SORACC_INLINE_MEMBER static void copy(uint8_t* stage, const Matrix<Element>& left, const Matrix<Element>& right, int64_t row,
                                        int64_t column, int64_t depth, bool left_aligned, bool right_aligned) {
    copy_tile<Element, LEFT ? ROWS : DEPTH, LEFT ? DEPTH : ROWS, THREADS>(stage, left, LEFT ? row : depth, LEFT ? depth : row, left_aligned);
    copy_tile<Element, RIGHT ? COLUMNS : DEPTH, RIGHT ? DEPTH : COLUMNS, THREADS>(stage + LeftTile::BYTES, right, RIGHT ? column : depth, RIGHT ? depth : column, right_aligned);
  }

  SORACC_INLINE_MEMBER void multiply(const uint8_t* stage) {
    const int row = warp_index() / WARP_COLUMNS * ROW_FRAGMENTS * 16;
    const int column = warp_index() % WARP_COLUMNS * COLUMN_FRAGMENTS * 8;
#pragma unroll
    for (int depth = 0; depth < DEPTH; depth += Product<Element>::DEPTH) {
      uint32_t a[ROW_FRAGMENTS][4], b[COLUMN_FRAGMENTS / 2][2][2];
#pragma unroll
      for (int i = 0; i < ROW_FRAGMENTS; ++i) load_left<Element, LeftTile, LEFT>(a[i], stage, row + i * 16, depth);
#pragma unroll
      for (int j = 0; j < COLUMN_FRAGMENTS / 2; ++j) {
        load_right<Element, RightTile, RIGHT>(b[j], stage + LeftTile::BYTES, column + j * 16, depth);
      }
#pragma unroll
      for (int i = 0; i < ROW_FRAGMENTS; ++i) {
#pragma unroll
        for (int j = 0; j < COLUMN_FRAGMENTS; ++j) Product<Element>::of(sums[i][j], a[i], b[j / 2][j % 2]);
      }
    }
  }

  // sums = the product of rows from `row` on and columns from `column` on, over k from `first` to `last`.
  // `last` is the end of k, or a multiple of DEPTH away from `first`. `shared` has SHARED_BYTES.
  SORACC_INLINE_MEMBER void run(const Matrix<Element>& left, const Matrix<Element>& right, int64_t row, int64_t column,
                                int64_t first, int64_t last, uint8_t* shared) {
#pragma unroll
    for (int i = 0; i < ROW_FRAGMENTS; ++i) {
#pragma unroll
      for (int j = 0; j < COLUMN_FRAGMENTS; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[i][j][e] = 0.0f;
      }
    }
    const bool left_aligned = is_aligned(left), right_aligned = is_aligned(right);
    // Copies are STAGES - 1 steps ahead of the products.
    const int64_t steps = ceil_div(larger(last - first, 0), DEPTH);
    int filled = 0, read = 0;
#pragma unroll 1
    for (int64_t step = 1 - STAGES; step < steps; ++step) {
      if (step >= 0) {
        // The tile of this step has landed for everybody, and the one before it is free again.
        copy_async_wait<STAGES - 2>();
        sync_threads();
      }
      const int64_t ahead = step + STAGES - 1;
      if (ahead < steps) {
        copy(shared + filled * STAGE_BYTES, left, right, row, column, first + ahead * DEPTH, left_aligned, right_aligned);
        filled = filled == STAGES - 1 ? 0 : filled + 1;
      }
      copy_async_commit();
      if (step >= 0) {
        multiply(shared + read * STAGE_BYTES);
        read = read == STAGES - 1 ? 0 : read + 1;
      }
    }
    copy_async_wait<0>();
  }

  // The sums of the block in shared memory, where a warp finds neighbouring columns of one row.
  SORACC_INLINE_MEMBER const float* share(uint8_t* shared) const {
    float* const to = reinterpret_cast<float*>(shared);
    sync_threads();
#pragma unroll
    for (int i = 0; i < ROW_FRAGMENTS; ++i) {
#pragma unroll
      for (int j = 0; j < COLUMN_FRAGMENTS; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) to[row_of(i, e) * PITCH + column_of(j, e)] = sums[i][j][e];
      }
    }
    sync_threads();
    return to;
  }
};

}  // namespace soracc
