// Products of warpgroups. Each of the four warps reads its own 16 rows of the left side and all of the right one, through
// the async proxy, until it has waited; only then do the sums arrive in its registers. Warps of a warpgroup begin the same
// products in the same order, and nothing else ties them together.
#pragma once

#include "tensors.hpp"

namespace sim {

constexpr uint32_t ROWS = 16, DEPTH = 16, COLUMNS_MOST = 256;

// A product that a warp has begun.
struct Product {
  uint32_t columns = 0, lanes_left = WARP;
  bool accumulate = false;
  float* d[WARP] = {};
  std::vector<float> sums;
};

// What the warps of a warpgroup must agree on.
struct Issued {
  uint64_t a, b;
  uint32_t columns;
  int line;
  const void* place;
};

struct WarpProducts {
  std::deque<Product> flying;
  uint32_t first = 0;          // the number of the oldest of them
  std::vector<Issued> issued;  // by the whole warpgroup, in its first warp

  uint32_t count() const { return first + static_cast<uint32_t>(flying.size()); }
};

struct Begun {
  float* d;
  const uint32_t* registers;
  uint64_t a, b;
  uint32_t columns;
  int type;
  bool transposed_a, transposed_b, accumulate;
  const void* place;
};

inline WarpProducts& products_of(Warp& warp) {
  if (!warp.products) warp.products = std::make_unique<WarpProducts>();
  return *warp.products;
}

// --- sides in shared memory -----------------------------------------------------------------------------------------

// One side as a descriptor tells it: element (line, step), where lines are rows of a or columns of b.
struct Described {
  uint32_t start, leading, stride, width;
  bool across;

  Described(uint64_t bits, bool transposed, const void* place) : across(transposed) {
    start = static_cast<uint32_t>(bits & 0x3fff) << 4;
    leading = static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4;
    stride = static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4;
    const uint32_t mode = static_cast<uint32_t>(bits >> 62);
    width = mode == 1 ? 128 : mode == 2 ? 64 : mode == 3 ? 32 : 0;
    if ((bits >> 49 & 7) != 0) fail_at(place, "a wgmma descriptor has a base offset, which the simulator does not know");
    if (width != 0 && start % (8 * width) >= width) {
      fail_at(place, text("a wgmma descriptor begins at shared + %lld, not in the first row of a pattern of %u bytes",
                          (long long)start - SHARED_WINDOW, 8 * width));
    }
  }

  // Units of 16 bytes are contiguous: eight steps, or eight lines where the side is transposed.
  uint32_t address(uint32_t line, uint32_t step) const {
    if (!across) {
      if (width == 0) return start + line / 8 * stride + step / 8 * leading + line % 8 * 16;
      return swizzled(start + line / 8 * stride + line % 8 * width + step * 2, width);
    }
    if (width == 0) return start + line / 8 * stride + step / 8 * leading + step % 8 * 16;
    const uint32_t lines = width / 2;
    return swizzled(start + line / lines * leading + step / 8 * stride + step % 8 * width + line % lines * 2, width);
  }
};

// 16 bytes for the product that `warp` is about to begin.
inline const uint8_t* read_unit(Warp& warp, uint32_t address, const void* place) {
  Block& block = *warp.block;
  Thread& thread = lane_thread(warp, 0);
  const uint32_t actor = block.product_slot(warp.index);
  const uint32_t offset = offset_in_shared(thread, address, 16, 16, "begins a wgmma that reads", place), code = offset_of(place);
  const uint32_t access = access_of(actor, products_of(warp).count() + 1);
  const auto one = [&](Cell& cell, uint32_t bytes, uint64_t at) {
    const Attempt now = {thread, actor, true, at, place, "reads"};
    if (block_of(cell.write) != block.owner) report_unwritten(now);
    after_write<true>(now, cell, bytes);
    const uint32_t writer = who_of(cell.write);
    if (writer < block.count && when_of(cell.write) > thread.knowledge.fenced[writer]) {
      fail({text("wgmma reads shared + %llu, which thread %u has written with no fence_proxy_async since", (unsigned long long)at, writer),
            {{place, "the wgmma"}, {place_at(cell.write_place), text("thread %u writes", writer)}}, {}});
    }
    cell.read = with_reader<true>(thread, cell.read, access, bytes);
    cell.read_place = code;
  };
  for_cells(block.cells.data(), offset, 16, one, [](Cell& cell, const Cell& done) {
    cell.read = done.read;
    cell.read_place = done.read_place;
  });
  return block.shared + offset;
}

// `take(line, step, value)` for every element of `lines` lines from `first` on.
template <class Take>
inline void read_side(Warp& warp, const Described& side, uint32_t first, uint32_t lines, int type, const void* place, Take take) {
  const uint32_t along = side.across ? DEPTH : DEPTH / 8, units = side.across ? lines / 8 : lines;
  for (uint32_t unit = 0; unit < units; ++unit) {
    for (uint32_t i = 0; i < along; ++i) {
      const uint32_t line = side.across ? unit * 8 : unit, step = side.across ? i : i * 8;
      uint16_t halves[8];
      memcpy(halves, read_unit(warp, side.address(first + line, step), place), 16);
      for (uint32_t e = 0; e < 8; ++e) {
        take(side.across ? line + e : line, side.across ? step : step + e, narrow_value(halves[e], type));
      }
    }
  }
}

// --- registers ------------------------------------------------------------------------------------------------------

inline Tracked& track(Thread& thread, const void* registers, uint32_t bytes) {
  const uintptr_t first = reinterpret_cast<uintptr_t>(registers);
  int free = -1;
  for (int i = 0; i < thread.tracked_count; ++i) {
    Tracked& one = thread.tracked[i];
    if (one.first == first && one.last == first + bytes) return one;
    if (one.flying == 0) free = i;
  }
  if (thread.tracked_count < TRACKED_MOST) free = thread.tracked_count++;
  if (free < 0) fail_at(nullptr, text("the simulator follows %d lists of registers in flight", TRACKED_MOST));
  thread.tracked[free] = Tracked();
  thread.tracked[free].first = first;
  thread.tracked[free].last = first + bytes;
  return thread.tracked[free];
}

inline void use_registers(Thread& thread, const void* registers, uint32_t bytes, bool sums, const void* place) {
  Tracked& one = track(thread, registers, bytes);
  if (!thread.fence_seen || one.touched) {
    fail_at(place, text("thread %u gives a wgmma registers that were used otherwise, with no wgmma_fence since", thread.index));
  }
  one.place = place;
  one.flying += sums;
}

// --- products -------------------------------------------------------------------------------------------------------

inline void agree(Warp& warp, const Begun& mine, int line) {
  Block& block = *warp.block;
  const uint32_t leader = warp.index / 4 * 4;
  if (leader + 4 > block.warps.size()) fail_at(mine.place, "wgmma needs four whole warps, the first at a multiple of four");
  std::vector<Issued>& issued = products_of(block.warps[leader]).issued;
  const uint32_t number = products_of(warp).count();
  const uint64_t a = mine.registers == nullptr ? mine.a : 0;
  if (number == issued.size()) {
    issued.push_back({a, mine.b, mine.columns, line, mine.place});
    return;
  }
  const Issued& first = issued[number];
  if (first.a == a && first.b == mine.b && first.columns == mine.columns && first.line == line) return;
  fail({"warps of a warpgroup begin different products", {{mine.place, text("warp %u is here", warp.index)}, {first.place, "another was here"}}, {}});
}

inline void wgmma(Warp& warp) {
  const Begun& any = *static_cast<const Begun*>(warp.operands[0]);
  Block& block = *warp.block;
  WarpProducts& products = products_of(warp);
  if (products.count() >= CLOCK_MOST - 1) fail_at(any.place, "a block begins more products than the simulator can count");
  block.engines = true;
  agree(warp, any, warp.line);
  const uint32_t columns = any.columns;
  float left[ROWS][DEPTH];
  static float right[DEPTH][COLUMNS_MOST];
  read_side(warp, Described(any.b, any.transposed_b, any.place), 0, columns, any.type, any.place,
            [&](uint32_t line, uint32_t step, float value) { right[step][line] = value; });
  if (any.registers == nullptr) {
    read_side(warp, Described(any.a, any.transposed_a, any.place), warp.index % 4 * ROWS, ROWS, any.type, any.place,
              [&](uint32_t line, uint32_t step, float value) { left[line][step] = value; });
  }
  products.flying.emplace_back();
  Product& product = products.flying.back();
  product.columns = columns;
  product.accumulate = any.accumulate;
  for (uint32_t lane = 0; lane < WARP; ++lane) {
    const Begun& one = *static_cast<const Begun*>(warp.operands[lane]);
    if (one.b != any.b || one.accumulate != any.accumulate || (any.registers == nullptr && one.a != any.a)) {
      fail_at(any.place, text("lanes of warp %u give one wgmma different operands", warp.index));
    }
    Thread& thread = lane_thread(warp, lane);
    use_registers(thread, one.d, columns / 2 * 4, true, any.place);
    product.d[lane] = one.d;
    if (any.registers == nullptr) continue;
    use_registers(thread, one.registers, 16, false, any.place);
    for (uint32_t r = 0; r < 4; ++r) {
      for (uint32_t e = 0; e < 2; ++e) {
        left[lane / 4 + r % 2 * 8][lane % 4 * 2 + e + r / 2 * 8] = narrow_value(one.registers[r] >> 16 * e & 0xffff, any.type);
      }
    }
  }
  product.sums.assign(ROWS * columns, 0.0f);
  for (uint32_t row = 0; row < ROWS; ++row) {
    float* const sums = product.sums.data() + row * columns;
    for (uint32_t k = 0; k < DEPTH; ++k) {
      for (uint32_t column = 0; column < columns; ++column) sums[column] += left[row][k] * right[k][column];
    }
  }
}

// The sums of the oldest product that has not landed in this thread.
inline void land_product(Thread& thread) {
  WarpProducts& products = *thread.warp->products;
  Product& product = products.flying[thread.landed - products.first];
  float* const d = product.d[thread.lane];
  for (uint32_t i = 0; i < product.columns / 2; ++i) {
    const float sum = product.sums[(thread.lane / 4 + i / 2 % 2 * 8) * product.columns + i / 4 * 8 + thread.lane % 4 * 2 + i % 2];
    d[i] = product.accumulate ? d[i] + sum : sum;
  }
  --track(thread, d, product.columns / 2 * 4).flying;
  ++thread.landed;
  --product.lanes_left;
  while (!products.flying.empty() && products.flying.front().lanes_left == 0) {
    products.flying.pop_front();
    ++products.first;
  }
}

// A block is over: the warps of each warpgroup must have begun the same products.
inline void check_products(Block& block) {
  for (Warp& warp : block.warps) {
    const auto& leader = block.warps[warp.index / 4 * 4].products;
    const uint32_t count = warp.products ? warp.products->count() : 0;
    if (!leader || count == leader->issued.size()) continue;
    fail({"a wgmma is begun by some warps of a warpgroup only", {{leader->issued[count].place, text("warp %u does not come here", warp.index)}}, {}});
  }
}

// --- registers that change hands ------------------------------------------------------------------------------------

struct RegistersSet {
  uint32_t count;
  bool more;
  const void* place;
};

inline void grant_registers(Block& block) {
  for (Warp& warp : block.warps) {
    for (uint32_t lane = 0; lane < count_bits(warp.full); ++lane) {
      Thread& thread = lane_thread(warp, lane);
      if (thread.waiting != Waiting::registers) continue;
      if (warp.registers != thread.detail) {
        const uint32_t needed = (thread.detail - warp.registers) * WARP;
        if (needed > block.free_registers) break;
        block.free_registers -= needed;
        warp.registers = thread.detail;
      }
      wake(thread);
    }
  }
}

inline void set_registers(Warp& warp) {
  const RegistersSet& wanted = *static_cast<const RegistersSet*>(warp.operands[0]);
  Block& block = *warp.block;
  if (wanted.count > warp.registers) {
    const uint32_t needed = (wanted.count - warp.registers) * WARP;
    if (!wanted.more) fail_at(wanted.place, text("set_fewer_registers<%u> of a warp that has %u", wanted.count, warp.registers));
    if (needed > block.free_registers) return;  // each lane waits
    block.free_registers -= needed;
  } else {
    block.free_registers += (warp.registers - wanted.count) * WARP;
  }
  warp.registers = wanted.count;
  grant_registers(block);
}

}  // namespace sim

extern "C" {

void sim_wgmma_fence() {
  sim::Thread& thread = *sim::current;
  thread.fence_seen = true;
  for (int i = 0; i < thread.tracked_count; ++i) thread.tracked[i].touched = false;
}

void sim_wgmma(float* d, const unsigned* registers, unsigned long long a, unsigned long long b, unsigned columns, int type,
               bool transposed_a, bool transposed_b, bool accumulate, int line) {
  sim::Begun given = {d, registers, a, b, columns, type, transposed_a, transposed_b, accumulate, __builtin_return_address(0)};
  sim::with_warp(sim::WGMMA, line, &given, given.place);
}

void sim_wgmma_commit() {
  sim::Thread& thread = *sim::current;
  thread.commits.push_back(sim::products_of(*thread.warp).count());
}

void sim_wgmma_wait(unsigned groups) {
  sim::Thread& thread = *sim::current;
  if (thread.commits.size() <= groups) return;
  const uint32_t until = thread.commits[thread.commits.size() - groups - 1];
  while (thread.landed < until) sim::land_product(thread);
  uint32_t& known = thread.knowledge.known[thread.block->product_slot(thread.warp->index)];
  known = known > until ? known : until;
}

void sim_set_registers(unsigned count, bool more, int line) {
  sim::RegistersSet given = {count, more, __builtin_return_address(0)};
  if (count % 8 != 0 || count < 24 || count > 256) {
    sim::fail_at(given.place, sim::text("setmaxnreg of %u: a multiple of 8 from 24 to 256 is possible", count));
  }
  sim::with_warp(sim::SETMAXNREG, line, &given, given.place);
  sim::Warp& warp = *sim::current->warp;
  while (warp.registers != count) sim::wait_for(sim::Waiting::registers, 0, count, given.place);
}

}  // extern "C"
