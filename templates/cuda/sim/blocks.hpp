// Blocks, and who runs next. Several blocks of a launch are resident and take turns, so that one may wait for another;
// within a block the order of warps, and within a warp that of lanes, is drawn from the seed. A block in which nobody can
// go on is reported.
#pragma once

#include "cells.hpp"
#include "tensor_map.hpp"

namespace sim {

// Blocks that take turns; fewer where they are large.
constexpr uint32_t RESIDENT_MOST = 8, RESIDENT_THREADS = 2048;
// Shared memory of a block lies in the middle of a stretch of its own, so that what misses it is recognised.
constexpr uint32_t SHARED_STRETCH = 1u << 20, SHARED_BEFORE = 1u << 18, SHARED_MOST = 232448;
// Where the window of shared memory has it: a GPU keeps the first kilobyte to itself.
constexpr uint32_t SHARED_WINDOW = 1024;
// Accesses after which a thread lets others go on, for those that wait for a flag in memory.
constexpr uint32_t PATIENCE = 100000;
constexpr uint32_t REGISTERS = 65536;

struct Mbarrier {
  uint32_t address = 0, expected = 0, pending = 0, phase = 0;
  int64_t bytes = 0;
  // By whom and when it was made, and whether it may be given to copies.
  uint32_t made = 0;
  bool fenced = false;
  const void* place = nullptr;
  // Of the arrivals so far, and of those up to the end of the last phase.
  std::vector<uint32_t> store;
  Knowledge gathered, completed;
  std::vector<Thread*> waiting;
};

// A box on its way to shared memory. The map is kept: the thread's may be gone when it lands.
struct TensorCopy {
  TensorMapBits map;
  uint32_t shared = 0, bytes = 0, mbarrier = 0;
  int coordinates[5] = {};
  const void* place = nullptr;
};

struct Block {
  int64_t number = 0;
  uint32_t owner = 0;  // as in a cell's words
  uint32_t count = 0, alive = 0, width = 0;
  uint32_t ready_warps = 0;

  // Accesses of threads at times below this come before everything that follows.
  uint32_t floor = 1;
  // Whether copies or products take part in the ordering, and whether proxies do.
  bool engines = false, fences = false;

  uint8_t* shared = nullptr;
  std::vector<Cell> cells;
  ReaderSets readers;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<uint32_t> clocks;  // of threads and barriers
  Barrier barriers[16];
  std::vector<std::unique_ptr<Mbarrier>> mbarriers;
  std::vector<TensorCopy> flying;
  uint32_t free_registers = 0;

  // Slots of `Knowledge` that are in use.
  uint32_t slots() const { return engines ? width : count; }
  uint32_t mbarrier_slot(uint32_t which) const { return count + which; }
  uint32_t product_slot(uint32_t warp) const { return count + MBARRIERS_MOST + warp; }
};

struct Schedule {
  std::vector<Block*> resident;
  size_t turn = 0;
  Warp* warp = nullptr;
  uint32_t budget = 0, patience = PATIENCE;
  uint64_t switches = 0;  // for the watchdog
};
inline Schedule schedule;

void land_one(Block& block);                       // tensors.hpp
[[noreturn]] void report_deadlock(Block& block);   // below

inline uint32_t rotate(uint32_t bits, uint32_t by) { return bits >> by | bits << (-by & 31); }

inline Thread* next_thread() {
  Schedule& s = schedule;
  if (s.warp == nullptr || s.warp->ready == 0 || s.budget == 0) {
    s.turn = s.turn + 1 < s.resident.size() ? s.turn + 1 : 0;
    Block& block = *s.resident[s.turn];
    while (!block.flying.empty() && (block.ready_warps == 0 || dice(4) == 0)) land_one(block);
    if (block.ready_warps == 0) report_deadlock(block);
    const uint32_t by = dice(32);
    s.warp = &block.warps[(__builtin_ctz(rotate(block.ready_warps, by)) + by) & 31];
    if (dice(4) == 0) s.warp->rotation = dice(32);
    s.budget = WARP << dice(4);
  }
  --s.budget;
  ++s.switches;
  Warp& warp = *s.warp;
  return &warp.block->threads[warp.index * WARP + ((__builtin_ctz(rotate(warp.ready, warp.rotation)) + warp.rotation) & 31)];
}

inline void give_way() {
  Thread* const self = current;
  Thread* const next = next_thread();
  if (next == self) return;
  current = next;
  schedule.patience = PATIENCE;
  sim_switch(&self->stack_pointer, next->stack_pointer);
}

inline void stop(Thread& thread) {
  Warp& warp = *thread.warp;
  warp.ready &= ~(1u << thread.lane);
  if (warp.ready == 0) thread.block->ready_warps &= ~(1u << warp.index);
}

inline void wake(Thread& thread) {
  thread.waiting = Waiting::nothing;
  thread.warp->ready |= 1u << thread.lane;
  thread.block->ready_warps |= 1u << thread.warp->index;
}

// Until somebody wakes it.
inline void wait_for(Waiting what, uint32_t object, uint32_t detail, const void* place) {
  Thread& self = *current;
  self.waiting = what;
  self.object = object;
  self.detail = detail;
  self.place = place;
  stop(self);
  give_way();
}

// --- where everybody waits ------------------------------------------------------------------------------------------

const char* instruction_name(int instruction);  // warps.hpp

inline uint32_t count_bits(uint32_t bits) { return static_cast<uint32_t>(__builtin_popcount(bits)); }

inline std::string wanted_by(const Thread& thread) {
  const Block& block = *thread.block;
  switch (thread.waiting) {
    case Waiting::barrier: {
      const Barrier& barrier = block.barriers[thread.object];
      const std::string name = thread.object == 0 ? "sync_threads" : text("barrier %u", thread.object);
      return text("%s of %u threads, to which %u have come", name.c_str(), barrier.expected, barrier.arrived);
    }
    case Waiting::warp:
      return text("%s of a whole warp, to which %u lanes have come", instruction_name(thread.warp->instruction),
                  count_bits(thread.warp->arrived));
    case Waiting::mbarrier: {
      const Mbarrier& one = *block.mbarriers[thread.object];
      return text("the mbarrier at shared + %u, parity %u, %u arrivals and %lld bytes missing", one.address, thread.detail,
                  one.pending, (long long)one.bytes);
    }
    case Waiting::registers:
      return text("%u registers for each of its threads; the block has %u left", thread.detail, block.free_registers);
    case Waiting::nothing:
      break;
  }
  return "nothing";
}

[[noreturn]] inline void report_deadlock(Block& block) {
  Fault fault = {"deadlock: no thread of the block can go on", {}, {}};
  std::vector<const Thread*> firsts;
  std::vector<uint32_t> counts;
  uint32_t done = 0;
  for (const Thread& thread : block.threads) {
    done += thread.done;
    if (thread.done) continue;
    size_t site = 0;
    const auto same = [&](const Thread& other) {
      return other.place == thread.place && other.waiting == thread.waiting && other.object == thread.object &&
             other.detail == thread.detail;
    };
    while (site < firsts.size() && !same(*firsts[site])) ++site;
    if (site == firsts.size()) firsts.push_back(&thread), counts.push_back(0);
    ++counts[site];
  }
  for (size_t i = 0; i < firsts.size() && i < 12; ++i) {
    fault.places.push_back({firsts[i]->place, text("%u threads, the first of them %u, wait for %s", counts[i], firsts[i]->index, wanted_by(*firsts[i]).c_str())});
  }
  if (firsts.size() > 12) fault.details.push_back(text("and at %zu more places", firsts.size() - 12));
  if (done > 0) fault.details.push_back(text("%u threads have returned", done));
  current = const_cast<Thread*>(firsts.empty() ? &block.threads[0] : firsts[0]);
  fail(fault);
}

}  // namespace sim
