// Threads of a block as fibers: each has a stack of its own and runs until it waits. What a block, a warp and a thread
// are made of, and the change from one stack to another.
#pragma once

#include <cstring>
#include <deque>
#include <memory>

#include <sys/mman.h>

#include "report.hpp"

namespace sim {

constexpr uint32_t WARP = 32, WARPGROUP = 128, WARPS_MOST = 32;
constexpr size_t PAGE = 4096, STACK_BYTES = 64 * PAGE;

// Who can touch memory, in clocks and cells: the threads of the block, then for each of its mbarriers the copies that
// report to it, then for each of its warps the products that it has begun.
constexpr uint32_t MBARRIERS_MOST = 64, ENGINES = MBARRIERS_MOST + WARPS_MOST;

// For every one of those, the time up to which its accesses are ordered before what comes next (`known`); and of those,
// what has passed a fence between the generic and the async proxy on the way (`fenced`).
struct Knowledge {
  uint32_t *known = nullptr, *fenced = nullptr;
};

struct Block;
struct Thread;

// What a thread can wait for; `Thread::object` says which one, in the words of each.
enum class Waiting : uint8_t { nothing, barrier, warp, mbarrier, registers };

// Bytes on their way from global to shared memory.
struct Copy {
  uint32_t shared, size, bytes;
  const uint8_t* from;
  const void* place;
};

// Registers that products of a warpgroup have used, where the host has them: on the stack.
struct Tracked {
  uintptr_t first = 0, last = 0;
  uint32_t flying = 0;   // products that are not awaited and will store here
  bool touched = false;  // since the last wgmma_fence
  const void* place = nullptr;
};
constexpr int TRACKED_MOST = 16;

struct Warp {
  Block* block = nullptr;
  uint32_t index = 0;
  uint32_t full = 0, live = 0, ready = 0;  // lanes that exist, have not returned, can go on
  uint32_t rotation = 0;                   // which lane goes first

  // Lanes that have reached an instruction of the whole warp, and what each has brought.
  uint32_t arrived = 0;
  int instruction = 0, line = 0;
  const void* place = nullptr;
  void* operands[WARP] = {};

  uint32_t registers = 0;
  std::unique_ptr<struct WarpProducts> products;
};

struct Thread {
  void* stack_pointer = nullptr;
  uint8_t* stack = nullptr;
  Block* block = nullptr;
  Warp* warp = nullptr;
  uint32_t index = 0, lane = 0;

  uint32_t clock = 0;    // the time of its accesses
  uint32_t learned = 0;  // the block's floor when it last heard of threads outside of its warp
  Knowledge knowledge;

  Waiting waiting = Waiting::nothing;
  bool done = false;
  uint32_t object = 0, detail = 0;
  const void* place = nullptr;

  // Copies since the last commit, and the groups that were committed.
  std::vector<Copy> open;
  std::deque<std::vector<Copy>> groups;

  // Products of its warp: how many have landed here, and how many there were at each commit.
  uint32_t landed = 0;
  std::vector<uint32_t> commits;
  bool fence_seen = false;
  int tracked_count = 0;
  Tracked tracked[TRACKED_MOST];
};

struct Barrier {
  uint32_t arrived = 0, expected = 0;
  uint32_t lanes[WARPS_MOST] = {};
  int lines[WARPS_MOST] = {};
  Knowledge gathered;
  std::vector<Thread*> waiting;
  const void* place = nullptr;
};

struct Buffer {
  std::string name;
  uintptr_t address = 0, bytes = 0;
};

struct Launch {
  size_t library = 0;
  std::string symbol, origin;
  int64_t blocks = 0;
  uint32_t threads = 0, shared_bytes = 0;
  std::vector<uint8_t> arguments;
  std::vector<Buffer> buffers;
};

inline Thread* current = nullptr;
inline const Launch* launch = nullptr;
inline void* scheduler_pointer = nullptr;

// xorshift64*: orders follow from the seed alone, on every machine.
inline uint64_t dice_state = 1;
inline uint32_t dice(uint32_t below) {
  dice_state ^= dice_state >> 12;
  dice_state ^= dice_state << 25;
  dice_state ^= dice_state >> 27;
  return static_cast<uint32_t>((dice_state * 0x2545f4914f6cdd1dull >> 32) * below >> 32);
}

// --- stacks ---------------------------------------------------------------------------------------------------------

// Kept for the next block. The lowest page of each is a guard, and their tops are not all in the same cache sets.
inline std::vector<uint8_t*> idle_stacks;

inline uint8_t* take_stack() {
  if (idle_stacks.empty()) {
    void* const fresh = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh == MAP_FAILED) fail({"there is no memory for the stacks of threads", {}, {}});
    mprotect(fresh, PAGE, PROT_NONE);
    return static_cast<uint8_t*>(fresh);
  }
  uint8_t* const stack = idle_stacks.back();
  idle_stacks.pop_back();
  return stack;
}

#if defined(__x86_64__)
asm(R"(
.text
.type sim_switch, @function
sim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
#elif defined(__aarch64__)
asm(R"(
.text
.type sim_switch, %function
sim_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
#else
#error "the simulator knows x86-64 and arm64"
#endif
// Leaves the stack that is in use, remembers it in `save`, and goes on where `to` was left.
extern "C" void sim_switch(void** save, void* to);

// The first switch to this thread calls `main`.
inline void prepare_stack(Thread& thread, void (*main)()) {
  uint8_t* const top = thread.stack + STACK_BYTES - 64 - thread.index % 61 * 320;
  uintptr_t* words = reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(63));
#if defined(__x86_64__)
  *--words = 0;  // the entry finds the stack aligned as after a call
  *--words = reinterpret_cast<uintptr_t>(main);
  for (int i = 0; i < 6; ++i) *--words = 0;
#else
  words -= 20;
  memset(words, 0, 160);
  words[11] = reinterpret_cast<uintptr_t>(main);
#endif
  thread.stack_pointer = words;
}

}  // namespace sim
