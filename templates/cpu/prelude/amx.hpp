// The tile registers of AMX, for products of bfloat16. Written as assembly with a clobber of memory: the compiler's own
// intrinsics of g++ 12 declare too little of what they read and write, and lose stores.
//
// The process must have asked the kernel of the operating system for them (executor.cpp). With SORACC_AMX=2 the same
// functions are plain C++, so that everything around them can be tested on a machine without AMX.
#pragma once

#include "tile.hpp"

namespace soracc::tile::amx {

#if SORACC_AMX == 2

struct Session {};

// One tile of c: 16 rows of 16 sums, over `steps` times 32 elements of k.
inline void tile_products(int64_t steps, const bf16* a, int64_t a_row, const bf16* b, int64_t b_row, float* c, int64_t row,
                          bool accumulate) {
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 16; ++n) {
      float sum = accumulate ? c[m * row + n] : 0.0f;
      for (int64_t k = 0; k < 32 * steps; ++k) sum += float(a[m * a_row + k]) * float(b[k / 2 * 2 * b_row + 2 * n + k % 2]);
      c[m * row + n] = sum;
    }
  }
}

// Two by two tiles of c, or fewer. A row of `b` holds `b_row` pairs.
inline void block(bool two_rows, bool two_columns, int64_t steps, const bf16* a, int64_t a_row, const bf16* b, int64_t b_row,
                  float* c, int64_t row, bool accumulate) {
  for (int m = 0; m <= int(two_rows); ++m) {
    for (int n = 0; n <= int(two_columns); ++n) {
      tile_products(steps, a + 16 * m * a_row, a_row, b + 32 * n, b_row, c + 16 * m * row + 16 * n, row, accumulate);
    }
  }
}

#else

// Tiles are configured for as long as one of these lives: all eight of 16 rows of 64 bytes.
struct Session {
  Session() {
    struct alignas(64) Configuration {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static const Configuration configuration;
    asm volatile("ldtilecfg %0" : : "m"(configuration));
  }
  ~Session() { asm volatile("tilerelease"); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
};

#define SORACC_TILE_ZERO(tile) asm volatile("tilezero %%tmm" #tile : : :)
#define SORACC_TILE_LOAD(tile, from, bytes) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(from), "r"(int64_t(bytes)) : "memory")
#define SORACC_TILE_STORE(tile, to, bytes) \
  asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(to), "r"(int64_t(bytes)) : "memory")
#define SORACC_TILE_PRODUCTS(sums, left, right) \
  asm volatile("tdpbf16ps %%tmm" #right ", %%tmm" #left ", %%tmm" #sums : : :)

// Two by two tiles of c, or fewer. A row of `b` holds `b_row` pairs. Sums are tiles 0 to 3, the left side 4 and 5, the right
// side 6 and 7.
template <bool TWO_ROWS, bool TWO_COLUMNS>
void block_of(int64_t steps, const bf16* a, int64_t a_row, const bf16* b, int64_t b_row, float* c, int64_t row,
              bool accumulate) {
  const int64_t row_bytes = row * sizeof(float);
  if (accumulate) {
    SORACC_TILE_LOAD(0, c, row_bytes);
    if (TWO_COLUMNS) SORACC_TILE_LOAD(1, c + 16, row_bytes);
    if (TWO_ROWS) SORACC_TILE_LOAD(2, c + 16 * row, row_bytes);
    if (TWO_ROWS && TWO_COLUMNS) SORACC_TILE_LOAD(3, c + 16 * row + 16, row_bytes);
  } else {
    SORACC_TILE_ZERO(0);
    if (TWO_COLUMNS) SORACC_TILE_ZERO(1);
    if (TWO_ROWS) SORACC_TILE_ZERO(2);
    if (TWO_ROWS && TWO_COLUMNS) SORACC_TILE_ZERO(3);
  }
  for (int64_t step = 0; step < steps; ++step) {
    SORACC_TILE_LOAD(6, b, b_row * 4);
    if (TWO_COLUMNS) SORACC_TILE_LOAD(7, b + 32, b_row * 4);
    SORACC_TILE_LOAD(4, a, a_row * 2);
    SORACC_TILE_PRODUCTS(0, 4, 6);
    if (TWO_COLUMNS) SORACC_TILE_PRODUCTS(1, 4, 7);
    if (TWO_ROWS) {
      SORACC_TILE_LOAD(5, a + 16 * a_row, a_row * 2);
      SORACC_TILE_PRODUCTS(2, 5, 6);
      if (TWO_COLUMNS) SORACC_TILE_PRODUCTS(3, 5, 7);
    }
    a += 32;
    b += 32 * b_row;
  }
  SORACC_TILE_STORE(0, c, row_bytes);
  if (TWO_COLUMNS) SORACC_TILE_STORE(1, c + 16, row_bytes);
  if (TWO_ROWS) SORACC_TILE_STORE(2, c + 16 * row, row_bytes);
  if (TWO_ROWS && TWO_COLUMNS) SORACC_TILE_STORE(3, c + 16 * row + 16, row_bytes);
}

inline void block(bool two_rows, bool two_columns, int64_t steps, const bf16* a, int64_t a_row, const bf16* b, int64_t b_row,
                  float* c, int64_t row, bool accumulate) {
  if (two_rows && two_columns) block_of<true, true>(steps, a, a_row, b, b_row, c, row, accumulate);
  else if (two_rows) block_of<true, false>(steps, a, a_row, b, b_row, c, row, accumulate);
  else if (two_columns) block_of<false, true>(steps, a, a_row, b, b_row, c, row, accumulate);
  else block_of<false, false>(steps, a, a_row, b, b_row, c, row, accumulate);
}

#endif

// What the tiles can do at most: products of what is in them. Returns how many floating point operations that was.
inline double peak_products(int64_t times, float* out) {
  const Session session;
  alignas(64) bf16 zeros[16 * 32] = {};
#if SORACC_AMX == 2
  for (int64_t i = 0; i < times; ++i) block(false, false, 1, zeros, 32, zeros, 16, out, 16, true);
  return 2.0 * 16 * 16 * 32 * double(times);
#else
  SORACC_TILE_LOAD(4, zeros, 64);
  SORACC_TILE_LOAD(6, zeros, 64);
  SORACC_TILE_ZERO(0);
  SORACC_TILE_ZERO(1);
  SORACC_TILE_ZERO(2);
  SORACC_TILE_ZERO(3);
  for (int64_t i = 0; i < times; ++i) {
    SORACC_TILE_PRODUCTS(0, 4, 6);
    SORACC_TILE_PRODUCTS(1, 4, 6);
    SORACC_TILE_PRODUCTS(2, 4, 6);
    SORACC_TILE_PRODUCTS(3, 4, 6);
  }
  SORACC_TILE_STORE(0, out, 64);
  return 4 * 2.0 * 16 * 16 * 32 * double(times);
#endif
}

}  // namespace soracc::tile::amx
