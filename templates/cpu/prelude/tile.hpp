// Products of blocks that lie in the caches: the micro-kernel of contractions, attention and convolutions.
//
//     c[m, n] (+)= sum over k of a[m, k] * b[k, n]
//
// Elements of a are broadcast, so a may lie anywhere, transposed or not: it has a stride per row and one per step of k.
// b and c are read in whole vectors along n: their rows are contiguous, and hold a multiple of LINE bytes.
// A register block of ROWS x VECTORS sums runs along all of k; the sums of one element are added in the order of k.
// Vectors are those of GCC and Clang; another instruction set needs another `Registers`, nothing else.
#pragma once

#include "vector.hpp"

namespace soracc::tile {

// What columns are padded to, whatever the machine: the widest vector there is.
constexpr int64_t LINE = 64;

// The vectors of this machine, and how many of them one register block sums into.
struct Registers {
  static constexpr int BYTES = VECTOR_BYTES;
#if defined(__AVX512F__) || defined(__aarch64__)
  static constexpr int ROWS = 8, VECTORS = 3;  // 24 sums, 3 columns and 1 broadcast of 32 registers
#else
  static constexpr int ROWS = 6, VECTORS = 2;  // 12 sums, 2 columns and 1 broadcast of 16 registers
#endif
};

// A vector in a register, and the same vector at any address an element may have.
template <class T>
struct Vector {
  static constexpr int LANES = Registers::BYTES / sizeof(T);
  typedef T Value __attribute__((vector_size(Registers::BYTES)));
  typedef T Memory __attribute__((vector_size(Registers::BYTES), aligned(sizeof(T)), may_alias));

  static Value load(const T* from) { return *reinterpret_cast<const Memory*>(from); }
  static void store(T* to, Value value) { *reinterpret_cast<Memory*>(to) = value; }
};

// Element [m, k] is at[m * row + k * step].
template <class T>
struct Left {
  const T* at;
  int64_t row, step;
};

// Columns come in panels of PANEL: element [k, n] is at[n / PANEL * panel + k * step + n % PANEL].
// A matrix that lies row by row is one with panel == PANEL.
template <class T>
struct Right {
  const T* at;
  int64_t step, panel;
};

constexpr int64_t padded(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

#define SORACC_UNROLL _Pragma("GCC unroll 16")

// R rows and V vectors of c, in registers from the first step of k to the last.
template <class T, int R, int V>
__attribute__((noinline)) void register_block(int64_t depth, Left<T> a, const T* b, int64_t step, T* c, int64_t row,
                                              bool accumulate) {
  using Lanes = Vector<T>;
  typename Lanes::Value sums[R][V];
  SORACC_UNROLL for (int r = 0; r < R; ++r) {
    SORACC_UNROLL for (int v = 0; v < V; ++v) sums[r][v] = typename Lanes::Value{};
  }
  if (accumulate) {
    SORACC_UNROLL for (int r = 0; r < R; ++r) {
      SORACC_UNROLL for (int v = 0; v < V; ++v) sums[r][v] = Lanes::load(c + r * row + v * Lanes::LANES);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    typename Lanes::Value columns[V];
    SORACC_UNROLL for (int v = 0; v < V; ++v) columns[v] = Lanes::load(b + v * Lanes::LANES);
    SORACC_UNROLL for (int r = 0; r < R; ++r) {
      const T value = a.at[r * a.row];
      SORACC_UNROLL for (int v = 0; v < V; ++v) sums[r][v] += value * columns[v];
    }
    a.at += a.step;
    b += step;
  }
  SORACC_UNROLL for (int r = 0; r < R; ++r) {
    SORACC_UNROLL for (int v = 0; v < V; ++v) Lanes::store(c + r * row + v * Lanes::LANES, sums[r][v]);
  }
}

// All rows of V vectors of columns: whole register blocks, then what is left in powers of two.
template <class T, int V>
void column_block(int64_t rows, int64_t depth, Left<T> a, const T* b, int64_t step, T* c, int64_t row,
                  bool accumulate) {
  constexpr int R = Registers::ROWS;
  const auto take = [&](auto block, int count) {
    block(depth, a, b, step, c, row, accumulate);
    a.at += count * a.row;
    c += count * row;
    rows -= count;
  };
  while (rows >= R) take(register_block<T, R, V>, R);
  if (R > 4 && rows >= 4) take(register_block<T, 4, V>, 4);
  if (rows >= 2) take(register_block<T, 2, V>, 2);
  if (rows >= 1) take(register_block<T, 1, V>, 1);
}

// rows x columns of c. Columns are computed up to the end of the last vector: b and c must reach that far.
template <class T, int64_t PANEL>
void multiply(int64_t rows, int64_t columns, int64_t depth, Left<T> a, Right<T> b, T* c, int64_t row,
              bool accumulate) {
  constexpr int LANES = Vector<T>::LANES, WIDE = Registers::VECTORS;
  static_assert(PANEL * sizeof(T) % LINE == 0, "panels are whole lines");
  constexpr int MOST = PANEL / LANES < WIDE ? PANEL / LANES : WIDE;
  for (int64_t first = 0; first < columns; first += PANEL) {
    const int64_t width = columns - first < PANEL ? columns - first : PANEL;
    const T* from = b.at + first / PANEL * b.panel;
    T* to = c + first;
    for (int64_t left = (width + LANES - 1) / LANES; left > 0;) {
      // Four vectors are two and two rather than three and one.
      const int64_t take = left == WIDE + 1 && WIDE > 2 ? WIDE - 1 : left < MOST ? left : MOST;
      if (take == 1) column_block<T, 1>(rows, depth, a, from, b.step, to, row, accumulate);
      if constexpr (MOST >= 2) {
        if (take == 2) column_block<T, 2>(rows, depth, a, from, b.step, to, row, accumulate);
      }
      if constexpr (MOST >= 3) {
        if (take == 3) column_block<T, 3>(rows, depth, a, from, b.step, to, row, accumulate);
      }
      from += take * LANES;
      to += take * LANES;
      left -= take;
    }
  }
}

// Rows in memory as floats times `scale`, in rows of `to_row` that end in zeros; `step` apart along a row.
template <class T>
SORACC_INLINE void widen(const T* from, int64_t row, int64_t step, int64_t rows, int64_t columns, float scale, float* to,
                         int64_t to_row) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* const source = from + r * row;
    float* __restrict__ const target = to + r * to_row;
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) target[c] = static_cast<float>(source[c * step]) * scale;
    for (int64_t c = columns; c < to_row; ++c) target[c] = 0.0f;
  }
}

// The way back: rows of floats times `scale`, stored as another type.
template <class T>
SORACC_INLINE void narrow(const float* __restrict__ from, int64_t from_row, int64_t rows, int64_t columns, float scale,
                          T* to, int64_t row, int64_t step) {
  for (int64_t r = 0; r < rows; ++r) {
    T* const target = to + r * row;
    const float* const source = from + r * from_row;
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) target[c * step] = source[c] * scale;
  }
}

template <class T>
void clear(T* to, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] = T{};
}

// to = from, or to += from.
template <class T>
void accumulate(T* __restrict__ to, const T* __restrict__ from, int64_t count, bool add) {
  if (add) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] += from[i];
  } else {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = from[i];
  }
}

// The low and the high halves of a and b, interleaved: a0 b0 a1 b1 …
#if defined(__AVX512F__)
#define SORACC_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define SORACC_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define SORACC_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define SORACC_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define SORACC_LOW 0, 4, 1, 5
#define SORACC_HIGH 2, 6, 3, 7
#endif

// A square of vectors, in registers: log2(LANES) perfect shuffles of its rows.
SORACC_INLINE void transpose_square(Vector<float>::Value* a) {
  constexpr int LANES = Vector<float>::LANES;
  Vector<float>::Value b[LANES];
  SORACC_UNROLL for (int round = 1; round < LANES; round *= 2) {
    SORACC_UNROLL for (int i = 0; i < LANES / 2; ++i) {
      b[2 * i] = __builtin_shufflevector(a[i], a[i + LANES / 2], SORACC_LOW);
      b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + LANES / 2], SORACC_HIGH);
    }
    SORACC_UNROLL for (int i = 0; i < LANES; ++i) a[i] = b[i];
  }
}

// to[column * to_row + row] = from[row * from_row + column]. Each row of `to` is filled with zeros up to the end of its
// last vector.
inline void transpose(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row) {
  using Lanes = Vector<float>;
  constexpr int LANES = Lanes::LANES;
  for (int64_t r = 0; r < rows; r += LANES) {
    for (int64_t c = 0; c < columns; c += LANES) {
      const int64_t height = rows - r < LANES ? rows - r : LANES, width = columns - c < LANES ? columns - c : LANES;
      typename Lanes::Value a[LANES];
      if (height == LANES && width == LANES) {
        SORACC_UNROLL for (int i = 0; i < LANES; ++i) a[i] = Lanes::load(from + (r + i) * from_row + c);
      } else {
        for (int i = 0; i < LANES; ++i) {
          a[i] = typename Lanes::Value{};
          for (int64_t j = 0; i < height && j < width; ++j) a[i][j] = from[(r + i) * from_row + c + j];
        }
      }
      transpose_square(a);
      for (int i = 0; i < width; ++i) Lanes::store(to + (c + i) * to_row + r, a[i]);
    }
  }
}

// The same for other types, which are rare.
template <class T>
void transpose(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t to_row) {
  const int64_t end = padded(rows, Vector<T>::LANES);
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < end; ++r) to[c * to_row + r] = r < rows ? from[r * from_row + c] : T{};
  }
}

// Operands on their way from memory to `multiply`. Types that are multiplied one step of k at a time, these here, are
// ready as they are packed; bfloat16 may come in groups of steps (narrow.hpp).
template <class T>
constexpr int64_t at_a_time() {
  return 1;
}

// So many steps of k that none is multiplied alone.
template <class T>
constexpr int64_t whole_steps(int64_t depth) {
  return padded(depth, at_a_time<T>());
}

// A block of the left side, packed row by row.
template <class T>
Left<T> left_of_rows(T* rows, int64_t stride, int64_t, int64_t) {
  return {rows, stride, 1};
}

// A block of the left side, packed step by step; what follows it in memory may serve to turn it.
template <class T>
Left<T> left_of_steps(const T* steps, int64_t stride, int64_t, int64_t, T*) {
  return {steps, 1, stride};
}

// A panel of the right side, packed step by step: it lies where it belongs.
template <class T>
void panel_of_steps(const T*, int64_t, int64_t, int64_t, T*) {}

// A right side of one panel, whose rows are steps.
template <class T>
Right<T> right_of_steps(const T* steps, int64_t stride, int64_t, int64_t, T*) {
  return {steps, stride, 0};
}

// Sums as a left side: rows of them, or a row for every step of k.
inline Left<float> left_of_sums(const float* rows, int64_t stride, int64_t, int64_t, float*) { return {rows, stride, 1}; }
inline Left<float> left_of_sum_steps(const float* steps, int64_t stride, int64_t, int64_t, float*) {
  return {steps, 1, stride};
}

// Rows in memory as a left side; they are copied to `to`, in rows of `to_row` that end in zeros, if need be.
template <class T>
Left<float> left_in_memory(const T* from, int64_t row, int64_t step, int64_t rows, int64_t columns, float* to,
                           int64_t to_row) {
  widen(from, row, step, rows, columns, 1.0f, to, to_row);
  return {to, to_row, 1};
}
inline Left<float> left_in_memory(const float* from, int64_t row, int64_t step, int64_t, int64_t, float*, int64_t) {
  return {from, row, step};
}

// Rows in memory, steps of k, as a right side of one panel of `width`, which is the columns padded to a line.
template <class T>
Right<float> right_in_memory(const T* from, int64_t row, int64_t step, int64_t depth, int64_t columns, int64_t, float* to,
                             int64_t to_row, float*) {
  widen(from, row, step, depth, columns, 1.0f, to, to_row);
  return {to, to_row, 0};
}
inline Right<float> right_in_memory(const float* from, int64_t row, int64_t step, int64_t depth, int64_t columns,
                                    int64_t width, float* to, int64_t to_row, float*) {
  if (step == 1 && columns == width) return {from, row, 0};
  widen(from, row, step, depth, columns, 1.0f, to, to_row);
  return {to, to_row, 0};
}

// Rows in memory as operands, in rows of `to_row` that end in zeros.
template <class T>
void copy_rows(const T* from, int64_t row, int64_t step, int64_t rows, int64_t columns, float* to, int64_t to_row) {
  widen(from, row, step, rows, columns, 1.0f, to, to_row);
}

// A panel of the right side, packed as rows of k, one for each column.
template <class T>
void panel_of_rows(T* rows, int64_t stride, int64_t columns, int64_t depth, T* panel, int64_t width) {
  transpose(rows, stride, columns, depth, panel, width);
}

}  // namespace soracc::tile
