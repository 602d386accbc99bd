// Copies that run while the kernel goes on: they land when somebody waits for them, never before, and until then nobody
// may touch the bytes they write.
#pragma once

#include "warps.hpp"

namespace sim {

// What simulator.ts makes of a tensor map. Sizes are elements, strides bytes, innermost first.
struct TensorMapBits {
  uint64_t address;
  uint16_t magic;
  uint8_t dimensions, element_bytes;
  uint32_t swizzle;
  uint64_t sizes[5], strides[4];
  uint64_t box[5];
};
static_assert(sizeof(TensorMapBits) == 128, "a tensor map has 128 bytes");
constexpr uint16_t TENSOR_MAP = 0x50ac;

// The chunks of 16 bytes of a row change places with the row's number, as the address tells it.
inline uint32_t swizzled(uint32_t address, uint32_t width) {
  const uint32_t mask = width == 128 ? 7 : width == 64 ? 3 : width == 32 ? 1 : 0;
  return address ^ (address >> 7 & mask) << 4;
}

inline void land(Thread& thread, const std::vector<Copy>& copies) {
  for (const Copy& copy : copies) {
    uint8_t* const to = thread.block->shared + copy.shared;
    memset(to, 0, copy.size);
    memcpy(to, copy.from, copy.bytes);
    record_write(*thread.block, copy.shared, copy.size, thread.index, thread.clock[thread.index], true, nullptr);
  }
}

inline Mbarrier& mbarrier_at(uint32_t address) {
  const auto found = current->block->mbarriers.find(address);
  if (found == current->block->mbarriers.end()) fail({text("there is no mbarrier at shared + %u: its mbarrier_init is missing, or not before this in time", address), {}, {}});
  return found->second;
}

inline void complete(Mbarrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes != 0) return;
  barrier.pending = barrier.expected;
  ++barrier.phase;
  join(barrier.completed, barrier.gathered);
  for (Thread* thread : barrier.waiting) wake(thread);
  barrier.waiting.clear();
}

// Carries out one tensor copy of a block.
inline void land_tensor(Block& block, size_t which) {
  const TensorCopy copy = block.flying[which];
  block.flying.erase(block.flying.begin() + static_cast<long>(which));
  const TensorMapBits& map = *copy.map;
  const int engine = static_cast<int>(block.threads.size());
  uint64_t total = 1;
  for (int d = 0; d < map.dimensions; ++d) total *= map.box[d];
  for (uint64_t i = 0; i < total; ++i) {
    uint64_t rest = i;
    bool inside = true;
    uint64_t address = map.address;
    for (int d = 0; d < map.dimensions; ++d) {
      const int64_t index = copy.coordinates[d] + static_cast<int64_t>(rest % map.box[d]);
      rest /= map.box[d];
      inside = inside && index >= 0 && index < static_cast<int64_t>(map.sizes[d]);
      address += static_cast<uint64_t>(index) * (d == 0 ? map.element_bytes : map.strides[d - 1]);
    }
    uint8_t* const to = block.shared + swizzled(copy.shared + static_cast<uint32_t>(i) * map.element_bytes, map.swizzle);
    if (inside) {
      require_global(reinterpret_cast<void*>(address), map.element_bytes, "copies", nullptr);
      memcpy(to, reinterpret_cast<void*>(address), map.element_bytes);
    } else {
      memset(to, 0, map.element_bytes);
    }
  }
  const uint32_t bytes = static_cast<uint32_t>(total) * map.element_bytes;
  record_write(block, copy.shared, bytes, engine, block.engine_time++, false, nullptr);
  Mbarrier& barrier = block.mbarriers.at(copy.mbarrier);
  barrier.bytes -= bytes;
  barrier.gathered[engine] = block.engine_time;
  complete(barrier);
}

}  // namespace sim

extern "C" {

void sim_copy_async(unsigned shared, const void* global, unsigned size, unsigned bytes) {
  sim::Thread& thread = *sim::current;
  void* const place = __builtin_return_address(0);
  if (bytes > size) sim::fail_at(sim::text("a copy of %u bytes reads %u", size, bytes), {place});
  if (shared % size != 0) sim::fail_at(sim::text("a copy of %u bytes goes to shared + %u, no multiple of it", size, shared), {place});
  if (bytes > 0 && reinterpret_cast<uintptr_t>(global) % size != 0) sim::fail_at(sim::text("a copy of %u bytes comes from an address that is no multiple of it", size), {place});
  sim::require_shared(*thread.block, shared, size, "a copy writes", place);
  sim::require_global(global, bytes, "copies", place);
  sim::check_write(*thread.block, shared, size, thread.clock, thread.index, place);
  for (unsigned at = shared; at < shared + size; at += sim::CELL_BYTES) {
    sim::Cell& cell = sim::cell_at(*thread.block, at);
    cell.landing = static_cast<int16_t>(thread.index);
    cell.writer.place = place;
  }
  thread.open.push_back({shared, size, bytes, static_cast<const uint8_t*>(global)});
}

void sim_copy_async_commit() {
  sim::current->groups.push_back(std::move(sim::current->open));
  sim::current->open.clear();
}

void sim_copy_async_wait(unsigned groups) {
  sim::Thread& thread = *sim::current;
  while (thread.groups.size() > groups) {
    sim::land(thread, thread.groups.front());
    thread.groups.pop_front();
  }
}

void sim_mbarrier_init(unsigned address, unsigned arrivals) {
  if (address % 8 != 0) sim::fail_at("an mbarrier lies at no multiple of 8 bytes", {__builtin_return_address(0)});
  sim::require_shared(*sim::current->block, address, 8, "an mbarrier takes", __builtin_return_address(0));
  sim::Mbarrier& barrier = sim::current->block->mbarriers[address];
  barrier = {};
  barrier.expected = barrier.pending = static_cast<int>(arrivals);
  barrier.gathered = sim::Clock(sim::current->clock.size(), 0);
  barrier.completed = barrier.gathered;
}
void sim_mbarrier_init_fence() {}

void sim_mbarrier_arrive(unsigned address, unsigned bytes) {
  sim::Mbarrier& barrier = sim::mbarrier_at(address);
  if (barrier.pending == 0) sim::fail({sim::text("more threads arrive at the mbarrier at shared + %u than it expects (%d)", address, barrier.expected), {__builtin_return_address(0)}, {}});
  barrier.bytes += bytes;
  --barrier.pending;
  sim::tick();
  sim::join(barrier.gathered, sim::current->clock);
  sim::complete(barrier);
}

void sim_mbarrier_wait(unsigned address, unsigned parity) {
  sim::Mbarrier& barrier = sim::mbarrier_at(address);
  // Phase 0 is in progress first: its parity is 0, and that of the phase before it counts as complete.
  while ((barrier.phase & 1) == (parity & 1)) {
    barrier.waiting.push_back(sim::current);
    sim::wait_for(sim::text("the mbarrier at shared + %u, parity %u, %d arrivals and %lld bytes missing", address, parity & 1,
                            barrier.pending, (long long)barrier.bytes), 0);
  }
  sim::join(sim::current->clock, barrier.completed);
}

void sim_tensor_load(unsigned shared, const void* map, unsigned mbarrier, int dimensions, const int* coordinates) {
  sim::Thread& thread = *sim::current;
  sim::Block& block = *thread.block;
  void* const place = __builtin_return_address(0);
  static std::vector<std::unique_ptr<sim::TensorMapBits>> kept; // a map may lie on a stack that is gone when it lands
  kept.push_back(std::make_unique<sim::TensorMapBits>());
  sim::TensorMapBits& bits = *kept.back();
  memcpy(&bits, map, sizeof bits);
  if (bits.magic != sim::TENSOR_MAP) sim::fail_at("a tensor copy is given something that is no tensor map", {place});
  if (bits.dimensions != dimensions) sim::fail_at(sim::text("a tensor copy of %d dimensions is given a map of %d", dimensions, bits.dimensions), {place});
  uint64_t bytes = bits.element_bytes;
  for (int d = 0; d < dimensions; ++d) bytes *= bits.box[d];
  const unsigned alignment = bits.swizzle == 0 ? 128 : bits.swizzle * 8;
  if (shared % alignment != 0) sim::fail_at(sim::text("a tensor copy goes to shared + %u, no multiple of %u", shared, alignment), {place});
  sim::require_shared(block, shared, static_cast<int64_t>(bytes), "a tensor copy writes", place);
  sim::mbarrier_at(mbarrier);
  sim::check_write(block, shared, static_cast<uint32_t>(bytes), thread.clock, static_cast<int>(block.threads.size()), place);
  for (unsigned at = shared; at < shared + bytes; at += sim::CELL_BYTES) sim::cell_at(block, at).landing = static_cast<int16_t>(block.threads.size());
  sim::TensorCopy copy;
  copy.shared = shared;
  copy.mbarrier = mbarrier;
  copy.map = &bits;
  for (int d = 0; d < dimensions; ++d) copy.coordinates[d] = coordinates[d];
  block.flying.push_back(copy);
}

void sim_tensor_prefetch(const void*) {}

void sim_proxy_fence() { sim::current->fences.push_back(sim::tick()); }

}  // extern "C"
