// What every access has to keep to: inside a buffer or the block's shared memory, after somebody wrote there, and ordered
// against the accesses of other threads to the same bytes. The compiler calls __tsan_* for each load and store of a
// kernel; that these are ours and not a sanitizer's is the point.
#pragma once

#include "threads.hpp"

namespace sim {

constexpr int CELL_BYTES = 2;

struct Access {
  int16_t thread = -1; // -1: nobody; the number of threads: the engine of tensor copies
  uint32_t time = 0;
  void* place = nullptr;
};

// Two bytes of shared memory.
struct Cell {
  Access writer;
  Access reader; // the only one, or the last
  std::unique_ptr<std::map<int, Access>> readers; // the last of each warp, once there are several
  bool written = false, generic = false;
  // A copy that has not landed, or products that are not awaited, and the thread they belong to.
  int16_t landing = -1, multiplying = 0;
};

inline bool before(const Access& access, const Clock& clock) {
  return access.thread < 0 || access.time < clock[access.thread];
}

inline std::string who(int thread) {
  return thread == static_cast<int>(current->block->threads.size()) ? "a tensor copy" : text("thread %d", thread);
}

[[noreturn]] inline void fail_at(const std::string& message, std::vector<void*> places) {
  fail({message, std::move(places), {}});
}

inline Cell& cell_at(Block& block, uint32_t offset) { return block.cells[offset / CELL_BYTES]; }

inline void require_shared(const Block& block, int64_t offset, int64_t bytes, const char* doing, void* place) {
  if (offset >= 0 && offset + bytes <= static_cast<int64_t>(launch->shared_bytes)) return;
  fail_at(text("%s %lld bytes at shared + %lld, outside of the block's %u bytes of shared memory", doing, (long long)bytes,
               (long long)offset, launch->shared_bytes), {place});
}

// What stands in the way of a thread that is about to write.
inline void check_write(Block& block, uint32_t offset, uint32_t bytes, const Clock& clock, int thread, void* place) {
  for (uint32_t at = offset; at < offset + bytes; at += CELL_BYTES) {
    Cell& cell = cell_at(block, at);
    if (cell.landing >= 0) {
      fail_at(text("%s writes shared + %u, where a copy of %s has not landed: its wait is missing", who(thread).c_str(), at,
                   who(cell.landing).c_str()), {place});
    }
    if (cell.multiplying > 0) {
      fail_at(text("%s overwrites shared + %u while a wgmma reads it: its wait is missing", who(thread).c_str(), at), {place});
    }
    if (cell.writer.thread != thread && !before(cell.writer, clock)) {
      fail_at(text("race: %s and %s both write shared + %u with no barrier between them", who(cell.writer.thread).c_str(),
                   who(thread).c_str(), at), {cell.writer.place, place});
    }
    const auto ordered = [&](const Access& reader) {
      if (reader.thread == thread || before(reader, clock)) return;
      fail_at(text("race: %s overwrites shared + %u, which %s reads, with no barrier between them", who(thread).c_str(), at,
                   who(reader.thread).c_str()), {reader.place, place});
    };
    ordered(cell.reader);
    if (cell.readers) for (const auto& [_, reader] : *cell.readers) ordered(reader);
  }
}

inline void record_write(Block& block, uint32_t offset, uint32_t bytes, int thread, uint32_t time, bool generic, void* place) {
  for (uint32_t at = offset; at < offset + bytes; at += CELL_BYTES) {
    Cell& cell = cell_at(block, at);
    cell.writer = {static_cast<int16_t>(thread), time, place};
    cell.reader = {};
    cell.readers.reset();
    cell.written = true;
    cell.generic = generic;
    cell.landing = -1;
  }
}

inline void check_read(Block& block, uint32_t offset, uint32_t bytes, const Thread& thread, void* place) {
  for (uint32_t at = offset; at < offset + bytes; at += CELL_BYTES) {
    const Cell& cell = cell_at(block, at);
    if (cell.landing >= 0) {
      fail_at(text("%s reads shared + %u, where a copy of %s has not landed: its wait is missing", who(thread.index).c_str(), at,
                   who(cell.landing).c_str()), {place});
    }
    if (!cell.written) fail_at(text("%s reads shared + %u, which nobody has written", who(thread.index).c_str(), at), {place});
    if (cell.writer.thread != thread.index && !before(cell.writer, thread.clock)) {
      fail_at(text("race: %s reads shared + %u, which %s writes, with no barrier between them", who(thread.index).c_str(), at,
                   who(cell.writer.thread).c_str()), {cell.writer.place, place});
    }
  }
}

inline void record_read(Block& block, uint32_t offset, uint32_t bytes, const Thread& thread, void* place) {
  const Access access = {static_cast<int16_t>(thread.index), thread.clock[thread.index], place};
  for (uint32_t at = offset; at < offset + bytes; at += CELL_BYTES) {
    Cell& cell = cell_at(block, at);
    if (cell.reader.thread >= 0 && cell.reader.thread != access.thread) {
      if (!cell.readers) cell.readers = std::make_unique<std::map<int, Access>>();
      (*cell.readers)[cell.reader.thread / WARP] = cell.reader;
    }
    cell.reader = access;
  }
}

inline void read_shared(uint32_t offset, uint32_t bytes, Thread& thread, void* place) {
  check_read(*thread.block, offset, bytes, thread, place);
  record_read(*thread.block, offset, bytes, thread, place);
}

inline void write_shared(uint32_t offset, uint32_t bytes, Thread& thread, void* place) {
  check_write(*thread.block, offset, bytes, thread.clock, thread.index, place);
  record_write(*thread.block, offset, bytes, thread.index, thread.clock[thread.index], true, place);
}

// --- global memory --------------------------------------------------------------------------------------------------

inline uintptr_t memory_first = 0, memory_last = 0;

inline const Buffer* buffer_of(uintptr_t address, uint64_t bytes) {
  static const Buffer* last = nullptr;
  static const Launch* of = nullptr;
  if (of == launch && last != nullptr && address >= last->address && address + bytes <= last->address + last->bytes) return last;
  of = launch;
  for (const Buffer& buffer : launch->buffers) {
    if (address >= buffer.address && address + bytes <= buffer.address + buffer.bytes) return last = &buffer;
  }
  return nullptr;
}

inline void require_global(const void* pointer, uint64_t bytes, const char* doing, void* place) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  if (bytes == 0 || buffer_of(address, bytes) != nullptr) return;
  std::string nearest = "no buffer of this launch";
  int64_t closest = INT64_MAX;
  for (const Buffer& buffer : launch->buffers) {
    const int64_t offset = static_cast<int64_t>(address - buffer.address);
    const int64_t distance = offset < 0 ? -offset : offset - static_cast<int64_t>(buffer.bytes);
    if (distance >= closest) continue;
    closest = distance;
    nearest = text("%s + %lld of %lld bytes", buffer.name.c_str(), (long long)offset, (long long)buffer.bytes);
  }
  fail_at(text("%s %s %llu bytes outside of every buffer: %s", who(current->index).c_str(), doing, (unsigned long long)bytes,
               nearest.c_str()), {place});
}

// --- every load and store of a kernel -------------------------------------------------------------------------------

inline bool is_library(uintptr_t address) {
  for (const Mapped& one : mapped) if (address >= one.first && address < one.last) return true;
  return false;
}

inline void access(const void* pointer, uint32_t bytes, bool write, void* place) {
  Thread* const thread = current;
  if (thread == nullptr) return;
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  if (address - reinterpret_cast<uintptr_t>(thread->stack) < STACK_BYTES) return;
  Block& block = *thread->block;
  const uintptr_t memory = reinterpret_cast<uintptr_t>(block.memory.data());
  if (address >= memory && address < memory + block.memory.size()) {
    const int64_t offset = static_cast<int64_t>(address - reinterpret_cast<uintptr_t>(block.shared));
    require_shared(block, offset, bytes, write ? "writes" : "reads", place);
    if (write) write_shared(static_cast<uint32_t>(offset), bytes, *thread, place);
    else read_shared(static_cast<uint32_t>(offset), bytes, *thread, place);
    return;
  }
  if (buffer_of(address, bytes) != nullptr) return;
  const uintptr_t arguments = reinterpret_cast<uintptr_t>(argument_block);
  if (!write && ((address >= arguments && address + bytes <= arguments + launch->arguments.size()) || is_library(address))) return;
  require_global(pointer, bytes, write ? "writes" : "reads", place);
}

}  // namespace sim

#define SIM_HOOK(bytes)                                                                                                   \
  void __tsan_read##bytes(void* at) { sim::access(at, bytes, false, __builtin_return_address(0)); }                       \
  void __tsan_write##bytes(void* at) { sim::access(at, bytes, true, __builtin_return_address(0)); }                       \
  void __tsan_unaligned_read##bytes(void* at) { sim::access(at, bytes, false, __builtin_return_address(0)); }             \
  void __tsan_unaligned_write##bytes(void* at) { sim::access(at, bytes, true, __builtin_return_address(0)); }

extern "C" {
SIM_HOOK(1)
SIM_HOOK(2)
SIM_HOOK(4)
SIM_HOOK(8)
SIM_HOOK(16)
void __tsan_read_range(void* at, unsigned long bytes) { sim::access(at, bytes, false, __builtin_return_address(0)); }
void __tsan_write_range(void* at, unsigned long bytes) { sim::access(at, bytes, true, __builtin_return_address(0)); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
}
