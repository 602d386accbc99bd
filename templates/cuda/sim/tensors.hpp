// mbarriers, and copies of boxes of a tensor that report to them. A box lands at some time after it is asked for; whoever
// has waited for its mbarrier may read it, through either proxy.
#pragma once

#include "copies.hpp"

namespace sim {

// --- mbarriers ------------------------------------------------------------------------------------------------------

inline uint32_t mbarrier_at(Thread& thread, uint32_t address, const void* place) {
  Block& block = *thread.block;
  const uint32_t offset = offset_in_shared(thread, address, 8, 8, "uses an mbarrier", place);
  for (uint32_t i = 0; i < block.mbarriers.size(); ++i) {
    const Mbarrier& one = *block.mbarriers[i];
    if (one.address != offset) continue;
    if (is_before(thread, one.made)) return i;
    const std::string maker = who(block, who_of(one.made));
    fail({text("thread %u uses the mbarrier at shared + %u, which %s initialises, with no barrier between them", thread.index, offset, maker.c_str()),
          {{place, text("thread %u uses it", thread.index)}, {one.place, maker + " initialises it"}}, {}});
  }
  fail_at(place, text("there is no mbarrier at shared + %u: its mbarrier_init is missing, or not before this in time", offset));
}

inline void complete(Block& block, Mbarrier& one) {
  if (one.pending > 0 || one.bytes != 0) return;
  one.pending = one.expected;
  ++one.phase;
  learn(block, one.completed, one.gathered);
  for (Thread* thread : one.waiting) wake(*thread);
  one.waiting.clear();
}

// --- copies ---------------------------------------------------------------------------------------------------------

// Calls `row(address or null, where in the box, bytes)` for pieces of the box that are contiguous in memory; null is
// outside of the tensor.
template <class Row>
inline void for_rows(const TensorCopy& copy, Row row) {
  const TensorMapBits& map = copy.map;
  const int64_t width = map.element_bytes, first = copy.coordinates[0], box = static_cast<int64_t>(map.box[0]);
  const int64_t begin = first < 0 ? (-first < box ? -first : box) : 0;
  const int64_t left = static_cast<int64_t>(map.sizes[0]) - first, limit = left < box ? left : box;
  const int64_t end = limit > begin ? limit : begin;
  uint64_t rows = 1;
  for (int d = 1; d < map.dimensions; ++d) rows *= map.box[d];
  for (uint64_t i = 0; i < rows; ++i) {
    uint64_t rest = i, address = map.address;
    bool inside = true;
    for (int d = 1; d < map.dimensions; ++d) {
      const int64_t index = copy.coordinates[d] + static_cast<int64_t>(rest % map.box[d]);
      rest /= map.box[d];
      inside = inside && index >= 0 && index < static_cast<int64_t>(map.sizes[d]);
      address += static_cast<uint64_t>(index) * map.strides[d - 1];
    }
    const uint64_t at = i * static_cast<uint64_t>(box * width);
    const int64_t from = inside ? begin : box, to = inside ? end : box;
    if (from > 0) row(nullptr, at, static_cast<uint64_t>(from * width));
    if (to > from) row(reinterpret_cast<const uint8_t*>(address) + (first + from) * width, at + static_cast<uint64_t>(from * width), static_cast<uint64_t>((to - from) * width));
    if (to < box) row(nullptr, at + static_cast<uint64_t>(to * width), static_cast<uint64_t>((box - to) * width));
  }
}

// One of the copies that are under way arrives.
inline void land_one(Block& block) {
  const size_t which = dice(static_cast<uint32_t>(block.flying.size()));
  const TensorCopy copy = block.flying[which];
  block.flying.erase(block.flying.begin() + static_cast<long>(which));
  for_rows(copy, [&](const uint8_t* from, uint64_t at, uint64_t bytes) {
    for (uint64_t done = 0; done < bytes;) {
      const uint64_t whole = 16 - (at + done) % 16, piece = whole < bytes - done ? whole : bytes - done;
      uint8_t* const to = block.shared + swizzled(copy.shared + SHARED_WINDOW + static_cast<uint32_t>(at + done), copy.map.swizzle) - SHARED_WINDOW;
      if (from == nullptr) memset(to, 0, piece);
      else memcpy(to, from + done, piece);
      done += piece;
    }
  });
  Mbarrier& one = *block.mbarriers[copy.mbarrier];
  const uint32_t slot = block.mbarrier_slot(copy.mbarrier), when = one.phase + 1;
  end_copy(block, slot, when, copy.shared, copy.bytes);
  one.gathered.known[slot] = when;
  one.bytes -= copy.bytes;
  complete(block, one);
}

inline const TensorMapBits& tensor_map(const void* map, const void* place) {
  const TensorMapBits& bits = *static_cast<const TensorMapBits*>(map);
  if (reinterpret_cast<uintptr_t>(map) % 64 != 0) fail_at(place, "a tensor map lies at no multiple of 64 bytes");
  if (bits.magic != TENSOR_MAP) fail_at(place, "a tensor copy is given something that is no tensor map");
  return bits;
}

}  // namespace sim

extern "C" {

void sim_mbarrier_init(unsigned address, unsigned arrivals) {
  sim::Thread& thread = *sim::current;
  sim::Block& block = *thread.block;
  const void* const place = __builtin_return_address(0);
  const uint32_t offset = sim::offset_in_shared(thread, address, 8, 8, "initialises an mbarrier", place);
  for (const auto& other : block.mbarriers) {
    if (other->address == offset) sim::fail({sim::text("the mbarrier at shared + %u is initialised twice", offset), {{place, ""}, {other->place, "before"}}, {}});
  }
  if (block.mbarriers.size() == sim::MBARRIERS_MOST) sim::fail_at(place, sim::text("the simulator knows %u mbarriers of a block", sim::MBARRIERS_MOST));
  if (arrivals == 0 || arrivals >= 1u << 20) sim::fail_at(place, sim::text("an mbarrier for %u arrivals", arrivals));
  sim::note_write<true>(thread, offset, 8, place);
  for (uint32_t at = offset / 2; at < offset / 2 + 4; ++at) {
    block.cells[at].write = sim::word_of(block.owner, sim::BOTH_BYTES, sim::MBARRIER_ACCESS);
  }
  block.engines = true;
  auto one = std::make_unique<sim::Mbarrier>();
  one->address = offset;
  one->expected = one->pending = arrivals;
  one->made = sim::access_of(thread.index, thread.clock);
  one->place = place;
  one->store.assign(size_t(4) * block.width, 0);
  uint32_t* const store = one->store.data();
  one->gathered = {store, store + block.width};
  one->completed = {store + 2 * block.width, store + 3 * block.width};
  block.mbarriers.push_back(std::move(one));
}

void sim_proxy_fence() {
  sim::Thread& thread = *sim::current;
  for (const auto& one : thread.block->mbarriers) one->fenced = one->fenced || sim::who_of(one->made) == thread.index;
  sim::fence_proxies(thread);
}
void sim_mbarrier_init_fence() { sim_proxy_fence(); }

void sim_mbarrier_arrive(unsigned address, unsigned bytes) {
  sim::Thread& thread = *sim::current;
  sim::Block& block = *thread.block;
  const void* const place = __builtin_return_address(0);
  sim::Mbarrier& one = *block.mbarriers[sim::mbarrier_at(thread, address, place)];
  if (one.pending == 0) {
    sim::fail_at(place, sim::text("thread %u is one more than the %u arrivals that the mbarrier at shared + %u expects", thread.index, one.expected, one.address));
  }
  one.bytes += bytes;
  --one.pending;
  sim::learn(block, one.gathered, thread.knowledge);
  sim::later(thread);
  sim::complete(block, one);
}

void sim_mbarrier_wait(unsigned address, unsigned parity) {
  sim::Thread& thread = *sim::current;
  const void* const place = __builtin_return_address(0);
  const uint32_t which = sim::mbarrier_at(thread, address, place);
  sim::Mbarrier& one = *thread.block->mbarriers[which];
  // Phase 0 is in progress first: its parity is 0, and that of the phase before it counts as complete.
  while ((one.phase & 1) == (parity & 1)) {
    one.waiting.push_back(&thread);
    sim::wait_for(sim::Waiting::mbarrier, which, parity & 1, place);
  }
  sim::learn(thread, one.completed);
}

void sim_tensor_load(unsigned shared, const void* map, unsigned mbarrier, int dimensions, const int* coordinates) {
  sim::Thread& thread = *sim::current;
  sim::Block& block = *thread.block;
  const void* const place = __builtin_return_address(0);
  sim::TensorCopy copy;
  copy.map = sim::tensor_map(map, place);
  const sim::TensorMapBits& bits = copy.map;
  if (bits.dimensions != dimensions) sim::fail_at(place, sim::text("a tensor copy of %d dimensions is given a map of %d", dimensions, bits.dimensions));
  uint64_t bytes = bits.element_bytes;
  for (int d = 0; d < dimensions; ++d) {
    bytes *= bits.box[d];
    copy.coordinates[d] = coordinates[d];
  }
  if (bits.swizzle != 0 && bits.box[0] * bits.element_bytes != bits.swizzle) {
    sim::fail_at(place, sim::text("rows of a box are narrower than its swizzle of %u bytes, which the simulator does not know", bits.swizzle));
  }
  // On a GPU this ends as an illegal instruction; strides are multiples of 16 bytes already.
  if (coordinates[0] * bits.element_bytes % 16 != 0) {
    sim::fail_at(place, sim::text("a tensor copy begins at element %d of %d bytes, no multiple of 16 bytes", coordinates[0], bits.element_bytes));
  }
  copy.shared = sim::offset_in_shared(thread, shared, bytes, 128, "copies a box", place);
  copy.bytes = static_cast<uint32_t>(bytes);
  copy.mbarrier = sim::mbarrier_at(thread, mbarrier, place);
  copy.place = place;
  if (!block.mbarriers[copy.mbarrier]->fenced) {
    sim::fail({sim::text("a tensor copy reports to the mbarrier at shared + %u, which no mbarrier_init_fence follows", block.mbarriers[copy.mbarrier]->address),
               {{place, "the copy"}, {block.mbarriers[copy.mbarrier]->place, "mbarrier_init"}}, {}});
  }
  sim::for_rows(copy, [&](const uint8_t* from, uint64_t, uint64_t length) {
    if (from != nullptr) sim::read_global(thread, from, length, "copies", place);
  });
  sim::begin_copy(thread, block.mbarrier_slot(copy.mbarrier), true, copy.shared, bytes, place);
  block.flying.push_back(copy);
}

void sim_tensor_prefetch(const void* map) { sim::tensor_map(map, __builtin_return_address(0)); }

}  // extern "C"
