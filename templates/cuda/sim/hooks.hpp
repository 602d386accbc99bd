// Every load and store of a kernel. The compiler calls __tsan_* for them; that these are ours, and not a sanitizer's, is
// the point.
#pragma once

#include "memory.hpp"

namespace sim {

// Registers are on the stack: those that a wgmma in flight writes must be left alone.
inline void touch_registers(Thread& thread, uintptr_t address, uint64_t length, const void* place) {
  for (int i = 0; i < thread.tracked_count; ++i) {
    Tracked& one = thread.tracked[i];
    if (address >= one.last || address + length <= one.first) continue;
    if (one.flying > 0) {
      fail({text("thread %u uses sums of a wgmma that is not awaited", thread.index),
            {{place, text("thread %u uses them", thread.index)}, {one.place, "the wgmma"}}, {}});
    }
    one.touched = true;
  }
}

// What the launch hands over, where its alignment holds.
constexpr size_t ARGUMENTS_MOST = 4096;
alignas(64) inline uint8_t argument_block[ARGUMENTS_MOST];

// Arguments, and constants that came with the code.
inline bool is_constant(uintptr_t address, uint64_t length) {
  const uintptr_t arguments = reinterpret_cast<uintptr_t>(argument_block);
  return (address >= library->first && address + length <= library->last) ||
         (address >= arguments && address + length <= arguments + ARGUMENTS_MOST);
}

[[noreturn]] inline void report_nowhere(const Thread& thread, uintptr_t address, uint64_t length, bool write, const void* place) {
  const char* const doing = write ? "writes" : "reads";
  for (const Block* block : schedule.resident) {
    if (address + SHARED_BEFORE - reinterpret_cast<uintptr_t>(block->shared) < SHARED_STRETCH) {
      if (block != thread.block) fail_at(place, text("thread %u %s shared memory of another block", thread.index, doing));
      require_shared(thread, static_cast<int64_t>(address - reinterpret_cast<uintptr_t>(block->shared)), length, doing, place);
    }
    for (const Thread& other : block->threads) {
      if (address - reinterpret_cast<uintptr_t>(other.stack) < STACK_BYTES) {
        fail_at(place, text("thread %u %s a local variable of thread %u", thread.index, doing, other.index));
      }
    }
  }
  if (write && is_constant(address, length)) fail_at(place, text("thread %u writes a variable that outlives the kernel", thread.index));
  report_outside(thread, address, length, doing, place);
}

inline void be_patient() {
  schedule.budget = 0;
  current->warp->rotation = current->lane + 1;
  give_way();
}

inline void access(const void* pointer, uint64_t length, bool aligned, bool write, const void* place) {
  Thread& thread = *current;
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  if (address - reinterpret_cast<uintptr_t>(thread.stack) < STACK_BYTES) {
    if (thread.tracked_count > 0) touch_registers(thread, address, length, place);
    return;
  }
  if (aligned && (address & (length - 1)) != 0) {
    fail_at(place, text("thread %u %s %llu bytes at an address that is no multiple of it", thread.index, write ? "writes" : "reads",
                        (unsigned long long)length));
  }
  const uint64_t offset = address - reinterpret_cast<uintptr_t>(thread.block->shared);
  if (offset < launch->shared_bytes) {
    require_shared(thread, static_cast<int64_t>(offset), length, write ? "writes" : "reads", place);
    if (write) note_write<true>(thread, offset, length, place);
    else note_read<true>(thread, offset, length, place);
  } else if (is_inside(address, length)) {
    if (write) note_write<false>(thread, address - device.base, length, place);
    else note_read<false>(thread, address - device.base, length, place);
  } else if (write || !is_constant(address, length)) {
    report_nowhere(thread, address, length, write, place);
  }
  if (--schedule.patience == 0) be_patient();
}

}  // namespace sim

#define SIM_HOOKS(bytes)                                                                                                   \
  void __tsan_read##bytes(void* at) { sim::access(at, bytes, true, false, __builtin_return_address(0)); }                  \
  void __tsan_write##bytes(void* at) { sim::access(at, bytes, true, true, __builtin_return_address(0)); }                  \
  void __tsan_unaligned_read##bytes(void* at) { sim::access(at, bytes, false, false, __builtin_return_address(0)); }       \
  void __tsan_unaligned_write##bytes(void* at) { sim::access(at, bytes, false, true, __builtin_return_address(0)); }

extern "C" {
SIM_HOOKS(1)
SIM_HOOKS(2)
SIM_HOOKS(4)
SIM_HOOKS(8)
SIM_HOOKS(16)
void __tsan_read_range(void* at, unsigned long bytes) { sim::access(at, bytes, false, false, __builtin_return_address(0)); }
void __tsan_write_range(void* at, unsigned long bytes) { sim::access(at, bytes, false, true, __builtin_return_address(0)); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}

// Calls that a compiler makes of copies; kernels are linked with --wrap.
void* __wrap_memcpy(void* to, const void* from, unsigned long bytes) {
  if (bytes == 0) return to;
  sim::access(from, bytes, false, false, __builtin_return_address(0));
  sim::access(to, bytes, false, true, __builtin_return_address(0));
  return memcpy(to, from, bytes);
}
void* __wrap_memmove(void* to, const void* from, unsigned long bytes) {
  if (bytes == 0) return to;
  sim::access(from, bytes, false, false, __builtin_return_address(0));
  sim::access(to, bytes, false, true, __builtin_return_address(0));
  return memmove(to, from, bytes);
}
void* __wrap_memset(void* to, int value, unsigned long bytes) {
  if (bytes == 0) return to;
  sim::access(to, bytes, false, true, __builtin_return_address(0));
  return memset(to, value, bytes);
}
}
