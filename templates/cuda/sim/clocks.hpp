// What comes before what. Every thread has a clock, which goes on whenever others may learn of what it did, and knows up
// to which time of all others their accesses come before its own. Instructions that order memory pass that on: barriers,
// sync_warp, arrivals at an mbarrier and waits for it. Shuffles, votes and products order nothing.
//
// A barrier of the whole block teaches everybody everything, which is told by one number: times below the block's floor.
#pragma once

#include "blocks.hpp"

namespace sim {

constexpr uint32_t SLOTS_MOST = WARP * WARPS_MOST + ENGINES;

inline void later(Thread& thread) {
  if (thread.clock >= CLOCK_MOST) fail({"a block runs too long for the simulator: a million barriers", {{thread.place, ""}}, {}});
  thread.knowledge.known[thread.index] = ++thread.clock;
}

inline void raise(uint32_t* into, const uint32_t* from, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) into[i] = into[i] > from[i] ? into[i] : from[i];
}

inline void learn(const Block& block, const Knowledge& into, const Knowledge& from) {
  raise(into.known, from.known, block.slots());
  if (block.fences) raise(into.fenced, from.fenced, block.slots());
}

inline void learn(Thread& thread, const Knowledge& from) {
  learn(*thread.block, thread.knowledge, from);
  thread.learned = thread.block->floor;
}

inline bool is_before(const Thread& thread, uint32_t who, uint32_t when) {
  if (who == thread.index || when <= thread.knowledge.known[who]) return true;
  return who < thread.block->count && when < thread.block->floor;
}
inline bool is_before(const Thread& thread, uint32_t access) { return is_before(thread, who_of(access), when_of(access)); }

// What some thread knows of engines, or of fences, everybody does.
inline void learn_together(Block& block, uint32_t* Knowledge::*what, uint32_t from, uint32_t to) {
  static uint32_t all[SLOTS_MOST];
  memset(all + from, 0, (to - from) * 4);
  for (Thread& thread : block.threads) raise(all + from, thread.knowledge.*what + from, to - from);
  for (Thread& thread : block.threads) memcpy(thread.knowledge.*what + from, all + from, (to - from) * 4);
}

// A barrier of all threads of the block.
inline void order_block(Block& block) {
  uint32_t latest = 0;
  for (const Thread& thread : block.threads) latest = latest > thread.clock ? latest : thread.clock;
  for (Thread& thread : block.threads) {
    thread.clock = latest;
    later(thread);
  }
  block.floor = latest + 1;
  if (block.engines) learn_together(block, &Knowledge::known, block.count, block.width);
  else block.readers.forget();
  if (block.fences) learn_together(block, &Knowledge::fenced, 0, block.slots());
}

// The lanes of a warp that have not returned.
inline void order_warp(Warp& warp) {
  Block& block = *warp.block;
  const uint32_t first = warp.index * WARP;
  uint32_t latest = 0, clocks[WARP];
  bool wide = block.engines || block.fences;
  Thread* lanes[WARP];
  uint32_t count = 0;
  for (uint32_t live = warp.live; live != 0; live &= live - 1) {
    Thread& thread = block.threads[first + static_cast<uint32_t>(__builtin_ctz(live))];
    lanes[count] = &thread;
    clocks[count++] = thread.clock;
    latest = latest > thread.clock ? latest : thread.clock;
    wide = wide || thread.learned == block.floor;
  }
  if (wide) {
    static uint32_t store[2][SLOTS_MOST];
    const Knowledge all = {store[0], store[1]};
    memset(store, 0, sizeof store);
    for (uint32_t i = 0; i < count; ++i) learn(block, all, lanes[i]->knowledge);
    for (uint32_t i = 0; i < count; ++i) learn(*lanes[i], all);
  } else {
    for (uint32_t i = 0; i < count; ++i) {
      for (uint32_t j = 0; j < count; ++j) lanes[i]->knowledge.known[lanes[j]->index] = clocks[j];
    }
  }
  for (uint32_t i = 0; i < count; ++i) {
    lanes[i]->clock = latest;
    later(*lanes[i]);
  }
}

// Everything this thread knows of has passed the fence.
inline void fence_proxies(Thread& thread) {
  Block& block = *thread.block;
  block.fences = true;
  for (uint32_t i = 0; i < block.count; ++i) {
    const uint32_t known = thread.knowledge.known[i], up_to = known > block.floor - 1 ? known : block.floor - 1;
    uint32_t& fenced = thread.knowledge.fenced[i];
    fenced = fenced > up_to ? fenced : up_to;
  }
  later(thread);
}

}  // namespace sim
