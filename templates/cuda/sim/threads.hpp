// Threads of a block as fibers: each has a stack of its own and runs until it waits. Who runs next is drawn from a seed.
#pragma once

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <sys/mman.h>
#include "report.hpp"

namespace sim {

constexpr int WARP = 32;
constexpr size_t STACK_BYTES = 128 * 1024;
constexpr size_t GUARD_BYTES = 4096; // on either side of a block's shared memory

// What a thread knows to have happened before its next instruction: for every thread of the block, and for the engine
// of tensor copies, the time up to which its writes and reads are ordered.
using Clock = std::vector<uint32_t>;

inline void join(Clock& into, const Clock& from) {
  for (size_t i = 0; i < into.size(); ++i) into[i] = into[i] > from[i] ? into[i] : from[i];
}

struct Block;

// Bytes on their way from global to shared memory.
struct Copy {
  uint32_t shared, size, bytes;
  const uint8_t* from;
};

struct Thread {
  Block* block = nullptr;
  int index = 0;
  void* stack_pointer = nullptr;
  uint8_t* stack = nullptr;
  bool waits = false, done = false;
  // What it waits for, and the line of the instruction.
  std::string wanted;
  int line = 0;
  Clock clock;
  // Copies since the last commit, and the groups that were committed.
  std::vector<Copy> open;
  std::deque<std::vector<Copy>> groups;
  // Times of its fences between the generic and the async proxy.
  std::vector<uint32_t> fences;
};

// Lanes that have reached an instruction of the whole warp.
struct Gathering {
  int arrived = 0, line = 0;
  const char* what = "";
  void* data[4 * WARP] = {};
};

struct Barrier {
  int arrived = 0, expected = 0;
  Clock clock;
  std::vector<Thread*> waiting;
};

struct Mbarrier {
  int expected = 0, pending = 0;
  int64_t bytes = 0;
  uint32_t phase = 0;
  Clock gathered, completed;
  std::vector<Thread*> waiting;
};

struct TensorCopy {
  uint32_t shared = 0, mbarrier = 0;
  const struct TensorMapBits* map = nullptr;
  int coordinates[5] = {};
};

struct Cell;

struct Block {
  int64_t number = 0;
  int threads_alive = 0;
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Gathering> warps, warpgroups;
  Barrier barriers[16];
  std::map<uint32_t, Mbarrier> mbarriers;
  std::vector<TensorCopy> flying;
  uint32_t engine_time = 0;
  std::vector<uint8_t> memory; // guards included
  uint8_t* shared = nullptr;
  std::vector<Cell> cells;
  std::vector<int> registers; // by warp: what setmaxnreg left it
  std::vector<struct Wgmma> products;
};

// The launch that runs.
struct Buffer {
  std::string name;
  uintptr_t address, bytes;
};
struct Launch {
  int library = 0;
  std::string symbol;
  int64_t blocks = 0;
  int threads = 0;
  uint32_t shared_bytes = 0;
  std::vector<uint8_t> arguments;
  std::vector<Buffer> buffers;
  std::string origin;
};

// What the launch hands over, where its alignment holds.
alignas(64) inline uint8_t argument_block[4096];

inline Thread* current = nullptr;
inline const Launch* launch = nullptr;
inline std::mt19937_64 dice;
inline void* scheduler_pointer = nullptr;

// --- changing from one stack to another -----------------------------------------------------------------------------

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
constexpr int SAVED_WORDS = 6;
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
extern "C" void sim_switch(void** save, void* to);

inline void give_up() { sim_switch(&current->stack_pointer, scheduler_pointer); }

// Waits until somebody calls `wake`.
inline void wait_for(const std::string& what, int line) {
  Thread* const self = current;
  self->waits = true;
  self->wanted = what;
  self->line = line;
  while (self->waits) give_up();
}

inline void wake(Thread* thread) { thread->waits = false; }

// A point in time of the current thread that others can come after.
inline uint32_t tick(Thread* thread = current) { return thread->clock[thread->index]++; }

void run_kernel(); // calls the kernel on the stack of the current thread

inline void thread_main() {
  run_kernel();
  current->done = true;
  --current->block->threads_alive;
  for (;;) give_up();
}

inline void prepare_stack(Thread& thread) {
  uint8_t* const top = thread.stack + STACK_BYTES - 64;
  uintptr_t* words = reinterpret_cast<uintptr_t*>(top);
#if defined(__x86_64__)
  *--words = 0; // so that the entry finds the stack aligned as after a call
  *--words = reinterpret_cast<uintptr_t>(&thread_main);
  for (int i = 0; i < SAVED_WORDS; ++i) *--words = 0;
#else
  words -= 20;
  memset(words, 0, 160);
  words[11] = reinterpret_cast<uintptr_t>(&thread_main);
#endif
  thread.stack_pointer = words;
}

// Stacks are kept for the next block.
inline std::vector<uint8_t*> idle_stacks;

inline uint8_t* take_stack() {
  if (idle_stacks.empty()) {
    void* const fresh = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh == MAP_FAILED) fail({"there is no memory for the stack of a thread", {}, {}});
    return static_cast<uint8_t*>(fresh);
  }
  uint8_t* const stack = idle_stacks.back();
  idle_stacks.pop_back();
  return stack;
}

}  // namespace sim
