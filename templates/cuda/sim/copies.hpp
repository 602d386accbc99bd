// cp.async: copies that run while the kernel goes on. They land when their thread waits for them, never before, and until
// then nobody may touch the bytes they write; from then on they are stores of that thread.
#pragma once

#include "barriers.hpp"

namespace sim {

// Before bytes are given to a copy: what would forbid the issuing thread to store there. A copy through the async proxy
// also wants a fence after stores.
inline void begin_copy(Thread& thread, uint32_t actor, bool async_proxy, uint64_t offset, uint64_t length, const void* place) {
  Block& block = *thread.block;
  const uint64_t word = word_of(block.owner, BOTH_BYTES, access_of(actor, 0)) | MARK;
  const uint32_t code = offset_of(place);
  const auto one = [&](Cell& cell, uint32_t bytes, uint64_t at) {
    const Attempt now = {thread, actor, true, at, place, "overwrites"};
    after_write<true>(now, cell, bytes);
    after_reads<true>(now, cell, bytes);
    const bool ours = block_of(cell.write) == block.owner;
    if (async_proxy && ours && who_of(cell.write) < block.count && when_of(cell.write) > thread.knowledge.fenced[who_of(cell.write)]) {
      const std::string other = who(block, who_of(cell.write));
      fail({text("a tensor copy overwrites shared + %llu, which %s has written with no fence_proxy_async since", (unsigned long long)at, other.c_str()),
            {{place, "the copy"}, {place_at(cell.write_place), other + " writes"}}, {}});
    }
    cell = {word, 0, code, 0};
  };
  for_cells(block.cells.data(), offset, length, one, [](Cell& cell, const Cell& done) { cell = done; });
}

// They are there: as if written by `actor` at the time `when`.
inline void end_copy(Block& block, uint32_t actor, uint32_t when, uint64_t offset, uint64_t length) {
  const uint64_t word = word_of(block.owner, BOTH_BYTES, access_of(actor, when));
  for (uint64_t at = offset / 2; at < (offset + length) / 2; ++at) block.cells[at].write = word;
}

inline void land(Thread& thread, const std::vector<Copy>& copies) {
  for (const Copy& copy : copies) {
    uint8_t* const to = thread.block->shared + copy.shared;
    memset(to, 0, copy.size);
    memcpy(to, copy.from, copy.bytes);
    end_copy(*thread.block, thread.index, thread.clock, copy.shared, copy.size);
  }
}

// An address in the shared window that an instruction is given, as an offset into the block's.
inline uint32_t offset_in_shared(const Thread& thread, uint32_t address, uint64_t length, uint32_t alignment, const char* doing, const void* place) {
  const int64_t offset = int64_t(address) - SHARED_WINDOW;
  require_shared(thread, offset, length, doing, place);
  if (offset % alignment != 0) {
    fail_at(place, text("thread %u %s at shared + %lld, no multiple of %u", thread.index, doing, (long long)offset, alignment));
  }
  return static_cast<uint32_t>(offset);
}

}  // namespace sim

extern "C" {

unsigned sim_thread_index() { return sim::current->index; }
unsigned sim_block_index() { return static_cast<unsigned>(sim::current->block->number); }
unsigned sim_block_threads() { return sim::launch->threads; }
unsigned sim_grid_blocks() { return static_cast<unsigned>(sim::launch->blocks); }
unsigned char* sim_shared_memory() { return sim::current->block->shared; }

unsigned sim_shared_address(const void* pointer) {
  const int64_t offset = static_cast<const uint8_t*>(pointer) - sim::current->block->shared;
  if (offset < -int64_t(sim::SHARED_WINDOW) || offset > int64_t(sim::SHARED_BEFORE)) {
    sim::fail_at(__builtin_return_address(0), "the address in shared memory is taken of something that lies elsewhere");
  }
  return static_cast<unsigned>(offset + sim::SHARED_WINDOW);
}

void sim_copy_async(unsigned shared, const void* global, unsigned size, unsigned bytes) {
  sim::Thread& thread = *sim::current;
  const void* const place = __builtin_return_address(0);
  if (bytes > size) sim::fail_at(place, sim::text("a copy of %u bytes reads %u", size, bytes));
  if (reinterpret_cast<uintptr_t>(global) % size != 0) {
    sim::fail_at(place, sim::text("thread %u copies %u bytes from an address that is no multiple of it", thread.index, size));
  }
  const uint32_t offset = sim::offset_in_shared(thread, shared, size, size, "copies", place);
  sim::read_global(thread, global, bytes, "copies", place);
  sim::begin_copy(thread, thread.index, false, offset, size, place);
  thread.open.push_back({offset, size, bytes, static_cast<const uint8_t*>(global), place});
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

}  // extern "C"
