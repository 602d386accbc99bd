// Barriers of a block: number 0 is sync_threads, 1 to 15 have names. What a thread brings to one, whoever waits there
// learns.
#pragma once

#include "warps.hpp"

namespace sim {

inline void clear(const Block& block, const Knowledge& knowledge) {
  memset(knowledge.known, 0, block.width * 4);
  memset(knowledge.fenced, 0, block.width * 4);
}

inline void complete(Block& block, Barrier& here) {
  for (Warp& warp : block.warps) {
    const uint32_t lanes = here.lanes[warp.index];
    here.lanes[warp.index] = 0;
    if (lanes != 0 && lanes != warp.full) {
      fail({"a barrier is reached by a part of a warp", {{here.place, text("%u lanes of warp %u come here", count_bits(lanes), warp.index)}}, {}});
    }
  }
  here.arrived = 0;
  if (here.waiting.size() == block.count) {
    order_block(block);
  } else {
    for (Thread* thread : here.waiting) {
      learn(*thread, here.gathered);
      later(*thread);
    }
  }
  for (Thread* thread : here.waiting) if (thread != current) wake(*thread);
  here.waiting.clear();
}

// `waits`: or only counts as one that has come.
inline void come_to(uint32_t number, uint32_t expected, bool waits, int line, const void* place) {
  Thread& self = *current;
  Block& block = *self.block;
  if (number > 15) fail_at(place, text("there is no barrier %u", number));
  if (expected % WARP != 0 && expected != block.count) fail_at(place, text("barrier %u is for %u threads, no whole number of warps", number, expected));
  if (!waits && number == 0) fail_at(place, "barrier 0 belongs to sync_threads");
  Barrier& here = block.barriers[number];
  if (here.arrived == 0) {
    here.expected = expected;
    here.place = place;
    if (number != 0 || expected != block.count) clear(block, here.gathered);
  } else if (here.expected != expected) {
    fail({text("barrier %u is for %u threads and for %u at a time", number, here.expected, expected),
          {{place, text("for %u", expected)}, {here.place, text("for %u", here.expected)}}, {}});
  }
  uint32_t& lanes = here.lanes[self.warp->index];
  int& first_line = here.lines[self.warp->index];
  if ((lanes >> self.lane & 1) != 0) fail_at(place, text("thread %u comes to barrier %u for the second time before it is over", self.index, number));
  if (lanes != 0 && first_line != line) {
    fail({"lanes of one warp are at different barrier instructions", {{place, text("thread %u is here", self.index)}, {here.place, "others came here"}}, {}});
  }
  lanes |= 1u << self.lane;
  first_line = line;
  ++here.arrived;
  if (number != 0 || expected != block.count) learn(block, here.gathered, self.knowledge);
  if (!waits) later(self);
  else here.waiting.push_back(&self);
  if (here.arrived == here.expected) complete(block, here);
  else if (waits) wait_for(Waiting::barrier, number, 0, place);
}

}  // namespace sim

extern "C" {

void sim_sync_threads(int line) { sim::come_to(0, sim::launch->threads, true, line, __builtin_return_address(0)); }
void sim_sync_named(unsigned barrier, unsigned threads, int line) {
  sim::come_to(barrier, threads, true, line, __builtin_return_address(0));
}
void sim_arrive_named(unsigned barrier, unsigned threads, int line) {
  sim::come_to(barrier, threads, false, line, __builtin_return_address(0));
}

}  // extern "C"
