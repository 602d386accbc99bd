// Warpgroups at work on Hopper: one warp copies ahead, whole warpgroups multiply what has landed. Tiles lie in shared
// memory the way boxes of a tensor map arrive, which is one that products of a warpgroup read; both see the same swizzle.
#pragma once

#include "hopper.cuh"
#include "tile.cuh"

namespace soracc {

constexpr int WARPGROUP_WARPS = 4, WARPGROUP = WARPGROUP_WARPS * WARP;
// Registers of a thread: a block has one warpgroup that copies, which gives up most of its own, and two or three that
// multiply. `simple` is a copying that has little to reckon with.
DEVICE constexpr int producer_registers(int consumers, bool simple) { return consumers == 3 ? 32 : simple ? 24 : 40; }
DEVICE constexpr int consumer_registers(int consumers, bool simple) { return consumers == 3 ? 160 : simple ? 240 : 232; }

DEVICE int warpgroup_index() { return warp_index() / WARPGROUP_WARPS; }
DEVICE int64_t block_count() { return static_cast<int64_t>(gridDim.x); }

// --- stages ---------------------------------------------------------------------------------------------------------

// A ring of places in shared memory that copies fill and warps empty, and where in it this thread is. A place has two
// barriers: all of its bytes have landed; each of its readers is done with it.
template <int STAGES>
struct Ring {
  static constexpr uint32_t BYTES = 16 * STAGES;

  uint32_t barriers;
  int stage;
  // Of the phase in which the place is full; the phase in which it was emptied before has the other.
  uint32_t parity;

  // By one thread, before `mbarrier_init_fence` and the block's barrier. `readers` is a number of warps.
  SORACC_INLINE_MEMBER static void init(uint32_t barriers, uint32_t readers) {
#pragma unroll
    for (int stage = 0; stage < STAGES; ++stage) {
      mbarrier_init(barriers + 16 * stage, 1);
      mbarrier_init(barriers + 16 * stage + 8, readers);
    }
  }

  SORACC_INLINE_MEMBER static Ring at(uint32_t barriers) { return Ring{ barriers, 0, 0 }; }

  // What copies into this place report to.
  SORACC_INLINE_MEMBER uint32_t full() const { return barriers + 16 * stage; }

  // The one that copies: until the readers are done with what was here.
  SORACC_INLINE_MEMBER void await_empty() const { mbarrier_wait(full() + 8, parity ^ 1); }

  // The readers: until it has landed; and, once per warp, that this warp is done with a place.
  SORACC_INLINE_MEMBER void await_full() const { mbarrier_wait(full(), parity); }
  SORACC_INLINE_MEMBER void release(int of) const {
    sync_warp();
    if (lane_index() == 0) mbarrier_arrive(barriers + 16 * of + 8);
  }

  // The place before this one.
  SORACC_INLINE_MEMBER int before() const { return stage == 0 ? STAGES - 1 : stage - 1; }
  SORACC_INLINE_MEMBER void next() {
    stage = stage == STAGES - 1 ? 0 : stage + 1;
    parity ^= stage == 0 ? 1 : 0;
  }
  // Past places that other warps empty. Whoever waits again must know that these have landed: parity alone does not
  // tell a phase from the one after the next.
  SORACC_INLINE_MEMBER void skip(int places) {
    const int to = stage + places;
    stage = to % STAGES;
    parity ^= (to / STAGES) & 1;
  }
};

// --- turns ----------------------------------------------------------------------------------------------------------

// Two warpgroups that multiply, 0 and 1, hand a turn to and fro. It must be passed on exactly as often as it is
// awaited; nobody awaits the very first.
DEVICE void await_turn(int group) { sync_named(1 + group, 2 * WARPGROUP); }
DEVICE void pass_turn(int group) { arrive_named(2 - group, 2 * WARPGROUP); }

// --- tiles of 16-bit elements ---------------------------------------------------------------------------------------

// Of what lies `bytes` after a tile, a multiple of 16. A sum in place of an address of its own: products of a tile share
// everything but a constant.
DEVICE uint64_t moved(uint64_t descriptor, int bytes) {
  const uint32_t low = static_cast<uint32_t>(descriptor) + static_cast<uint32_t>(bytes >> 4);
  return (descriptor & 0xffffffff00000000u) | low;
}

// Rows whose columns are the sum: parts of 64 columns, then one of 32 and one of 16 where COLUMNS ask for them. Each part
// is a box of a tensor map, with rows of its own width.
template <int ROWS, int COLUMNS>
struct DepthTile {
  static_assert(COLUMNS % 16 == 0 && ROWS % 8 == 0, "whole products");
  static constexpr int BOX_BYTES = ROWS * COLUMNS * 2;
  // The next tile begins on a boundary of the widest swizzle.
  static constexpr int BYTES = (BOX_BYTES + 1023) / 1024 * 1024;

  // From `row` on, 16 columns from `column` on.
  DEVICE uint64_t along(uint32_t tile, int row, int column) {
    constexpr int WHOLE = COLUMNS / 64 * 64, HALF = WHOLE + COLUMNS % 64 / 32 * 32;
    const int part = column < WHOLE ? column / 64 * 64 : column < HALF ? WHOLE : HALF;
    const int width = column < WHOLE ? 64 : column < HALF ? 32 : 16;
    return moved(wgmma_descriptor(tile, 16, width * 16, width * 2), part * ROWS * 2 + row * width * 2 + (column - part) * 2);
  }
};

// Panels of WIDTH columns, each a box of a tensor map: readable with the sum along rows or across them.
template <int ROWS, int COLUMNS, int WIDTH>
struct PanelTile {
  static_assert((WIDTH == 16 || WIDTH == 32 || WIDTH == 64) && ROWS % 8 == 0, "whole patterns");
  static constexpr int PANELS = (COLUMNS + WIDTH - 1) / WIDTH, PANEL_BYTES = ROWS * WIDTH * 2;
  static constexpr int BOX_BYTES = PANELS * PANEL_BYTES;
  static constexpr int BYTES = (BOX_BYTES + 1023) / 1024 * 1024;

  // From `row` on, 16 columns from `column` on.
  DEVICE uint64_t along(uint32_t tile, int row, int column) {
    return moved(wgmma_descriptor(tile, 16, WIDTH * 16, WIDTH * 2), column / WIDTH * PANEL_BYTES + row * WIDTH * 2 + column % WIDTH * 2);
  }
  // All columns, 16 rows from `row` on: transposed.
  DEVICE uint64_t across(uint32_t tile, int row) {
    return moved(wgmma_descriptor(tile, PANEL_BYTES, WIDTH * 16, WIDTH * 2), row * WIDTH * 2);
  }

  // Zeros from `row` to the end, by one warp, seen by products after its next arrival. Rows are whole under any swizzle.
  DEVICE void clear_rows(uint8_t* tile, int row) {
    struct alignas(16) Chunk {
      uint32_t words[4];
    };
    const int chunks = (ROWS - row) * WIDTH * 2 / 16;
#pragma unroll
    for (int panel = 0; panel < PANELS; ++panel) {
      Chunk* const from = reinterpret_cast<Chunk*>(tile + panel * PANEL_BYTES + row * WIDTH * 2);
      for (int chunk = lane_index(); chunk < chunks; chunk += WARP) from[chunk] = Chunk{ { 0, 0, 0, 0 } };
    }
    fence_proxy_async();
    sync_warp();
  }
};

// --- products -------------------------------------------------------------------------------------------------------

// d = 64 rows of `left` from `row` on times N rows of `right`, over DEPTH columns of both.
template <class T, int N, int DEPTH, class Left, class Right>
DEVICE void warpgroup_along(float (&d)[N / 2], uint32_t left, int row, uint32_t right) {
  wgmma_forget(d);
#pragma unroll
  for (int column = 0; column < DEPTH; column += 16) {
    wgmma<T, N, 0, 0>(d, Left::along(left, row, column), Right::along(right, 0, column), column > 0);
  }
}

// The same with the 64 rows in registers, 16 columns after the other.
template <class T, int N, int DEPTH, class Right>
DEVICE void warpgroup_along(float (&d)[N / 2], const uint32_t (&left)[DEPTH / 16][4], uint32_t right) {
  wgmma_forget(d);
#pragma unroll
  for (int column = 0; column < DEPTH; column += 16) {
    wgmma_registers<T, N, 0>(d, left[column / 16], Right::along(right, 0, column), column > 0);
  }
}

// d += 64 rows of p in registers times DEPTH rows of `right`, of which N columns are taken.
template <class T, int N, int DEPTH, class Right>
DEVICE void warpgroup_across(float (&d)[N / 2], const uint32_t (&p)[DEPTH / 16][4], uint32_t right) {
#pragma unroll
  for (int row = 0; row < DEPTH; row += 16) {
    wgmma_registers<T, N, 1>(d, p[row / 16], Right::across(right, row), true);
  }
}

// Sums as the left side of a product, rounded to T.
template <class T, int N>
DEVICE void left_of_sums(uint32_t (&p)[N / 16][4], const float (&d)[N / 2]) {
#pragma unroll
  for (int i = 0; i < N / 4; ++i) p[i / 4][i % 4] = Product<T>::pack(d[2 * i], d[2 * i + 1]);
}

// The row of a warpgroup's 64, and the column, of sum `i`.
DEVICE int sum_row(int i) { return warp_index() % WARPGROUP_WARPS * 16 + i / 2 % 2 * 8 + lane_index() / 4; }
DEVICE int sum_column(int i) { return i / 4 * 8 + lane_index() % 4 * 2 + i % 2; }

// A product of ROWS x COLUMNS by one warpgroup, while another stores what it had before. LEFT and RIGHT tell whether the
// matrices run along the sum; those that do not come in panels of 64 rows or columns.
template <class Element, int COLUMNS_, int STAGES_, bool LEFT, bool RIGHT>
struct WarpgroupProduct {
  static constexpr int ROWS = 128, COLUMNS = COLUMNS_, STAGES = STAGES_, DEPTH = 64;
  static constexpr int PANELS = (COLUMNS + 63) / 64;
  static constexpr int LEFT_BYTES = ROWS * DEPTH * 2, RIGHT_BYTES = (RIGHT ? COLUMNS : PANELS * 64) * DEPTH * 2;
  static constexpr int STAGE_BYTES = LEFT_BYTES + RIGHT_BYTES;
  // Sums on their way to memory: eight rows of every warp at a time.
  static constexpr int PART_ROWS = 8, PARTS = ROWS / WARPGROUP_WARPS / PART_ROWS, PITCH = COLUMNS + 8;
  static constexpr int PART_BYTES = PART_ROWS * PITCH * 4;
  static constexpr int SHARED_BYTES = STAGES * (STAGE_BYTES + 16) + 2 * WARPGROUP_WARPS * PART_BYTES;

  using LeftTile = PanelTile<LEFT ? ROWS : DEPTH, LEFT ? DEPTH : ROWS, 64>;
  using RightTile = PanelTile<RIGHT ? COLUMNS : DEPTH, RIGHT ? DEPTH : COLUMNS, 64>;

  float sums[ROWS / 64][COLUMNS / 2];

  // By one thread: the boxes of one step of k.
  DEVICE void copy(const Ring<STAGES>& ring, uint32_t stages, const TensorMap* left, const TensorMap* right, int32_t row,
                   int32_t column, int32_t depth, int32_t left_sample, int32_t right_sample) {
    const uint32_t to = stages + ring.stage * STAGE_BYTES;
    ring.await_empty();
    mbarrier_expect(ring.full(), STAGE_BYTES);
    if constexpr (LEFT) {
      tma_load_3d(to, left, ring.full(), depth, row, left_sample);
    } else {
#pragma unroll
      for (int panel = 0; panel < ROWS / 64; ++panel) {
        tma_load_3d(to + panel * LeftTile::PANEL_BYTES, left, ring.full(), row + panel * 64, depth, left_sample);
      }
    }
    if constexpr (RIGHT) {
      tma_load_3d(to + LEFT_BYTES, right, ring.full(), depth, column, right_sample);
    } else {
#pragma unroll
      for (int panel = 0; panel < PANELS; ++panel) {
        tma_load_3d(to + LEFT_BYTES + panel * RightTile::PANEL_BYTES, right, ring.full(), column + panel * 64, depth, right_sample);
      }
    }
  }

  // 64 rows of the left side from `block` * 64 on, and all columns of the right, at 16 steps of k from `depth` on.
  DEVICE uint64_t left_at(uint32_t stage, int block, int depth) {
    if constexpr (LEFT) return LeftTile::along(stage, block * 64, depth);
    return moved(LeftTile::across(stage, depth), block * LeftTile::PANEL_BYTES);
  }
  DEVICE uint64_t right_at(uint32_t stage, int depth) {
    if constexpr (RIGHT) return moved(RightTile::along(stage, 0, depth), LEFT_BYTES);
    return moved(RightTile::across(stage, depth), LEFT_BYTES);
  }

  // Starts sums = the product of what the next `steps` places of the ring receive, at least one; `settle` ends it.
  SORACC_INLINE_MEMBER void run(Ring<STAGES>& ring, uint32_t stages, int steps) {
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      const uint32_t stage = stages + ring.stage * STAGE_BYTES;
      ring.await_full();
      wgmma_fence();
#pragma unroll
      for (int depth = 0; depth < DEPTH; depth += 16) {
#pragma unroll
        for (int block = 0; block < ROWS / 64; ++block) {
          wgmma<Element, COLUMNS, !LEFT, !RIGHT>(sums[block], left_at(stage, block, depth), right_at(stage, depth), step > 0 || depth > 0);
        }
      }
      wgmma_commit();
      // The products of the step before are done, so that its place is free.
      wgmma_wait<1>();
      if (step > 0) ring.release(ring.before());
      ring.next();
    }
  }
  SORACC_INLINE_MEMBER void settle(const Ring<STAGES>& ring) {
    wgmma_wait<0>();
#pragma unroll
    for (int block = 0; block < ROWS / 64; ++block) wgmma_hold(sums[block]);
    ring.release(ring.before());
  }

  // The first row of a part that this warp has.
  SORACC_INLINE_MEMBER static int row_of(int part) {
    return part / 2 * 64 + warp_index() % WARPGROUP_WARPS * 16 + part % 2 * PART_ROWS;
  }

  // One part of the sums in shared memory, where this warp finds neighbouring columns of one row.
  SORACC_INLINE_MEMBER void share(int part, float* to) const {
    struct alignas(8) Pair {
      float first, second;
    };
    sync_warp();
#pragma unroll
    for (int which = 0; which < PARTS; ++which) {
      if (which != part) continue;
#pragma unroll
      for (int i = 0; i < COLUMNS / 2; i += 4) {
        const float* const sum = sums[which / 2] + i + which % 2 * 2;
        *reinterpret_cast<Pair*>(to + lane_index() / 4 * PITCH + sum_column(i)) = Pair{ sum[0], sum[1] };
      }
    }
    sync_warp();
  }
};

}  // namespace soracc
