// The host library: memory, libraries of kernels, and the executor that runs a bound plan in one call.
//
// Threads. A pool has `threads` members; member 0 is the coordinator, which owns the order of steps, the others help
// with the tasks of a phase. A caller of plan_run only waits: kernels run on stacks of ours, never on the caller's.
// A phase is published by storing its number of tasks in `open`; a member claims a task by counting `open` down, so
// it can only ever claim work of the phase that is published. The coordinator goes on when all claimed tasks have
// reported. Helpers spin briefly between phases and then sleep.
//
// Nothing here has a destructor that runs at exit: a process may end while kernels run.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "launch.hpp"

SORACC_EXPORT void* memory_allocate(int64_t bytes);
SORACC_EXPORT void memory_free(void* memory, int64_t bytes);

namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = int64_t(2) << 20;
constexpr int64_t kMagic = 0x736f7261;  // "sora"
constexpr auto kSpin = std::chrono::microseconds(50);

using Phase = void (*)(const Launch*, int64_t);
using Clock = std::chrono::steady_clock;

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// ---- plans ---------------------------------------------------------------------------------------------------------

struct Step {
  int64_t phases, scratch;
  const int64_t* functions;  // `phases` addresses
  const int64_t* tasks;      // one per phase
  Launch launch;             // scratch is filled in per thread
};

struct Fill {
  char* begin;
  int64_t bytes;
};

enum Cancel : int { kGoOn = 0, kBetweenRuns = 1, kNow = 2 };

struct Pool;

struct Plan {
  Pool* pool;
  std::vector<int64_t> words;  // everything below points into it
  std::vector<Step> steps;
  std::vector<Fill> fills;
  std::vector<int64_t> nanoseconds;  // per step, over all runs
  int64_t scratch = 0;
  std::atomic<int> cancel{kGoOn};
};

// ---- the pool ------------------------------------------------------------------------------------------------------

struct alignas(64) Member {
  char* scratch = nullptr;
  int64_t scratchBytes = 0;
};

struct Pool {
  int64_t threads;
  std::vector<Member> members;

  // The published phase. Written by the coordinator while `open` is 0 and every task has reported.
  Phase function = nullptr;
  Launch launch{};
  int64_t tasks = 0;
  const std::atomic<int>* cancel = nullptr;
  alignas(64) std::atomic<int64_t> open{0};      // tasks nobody has claimed yet
  alignas(64) std::atomic<int64_t> reported{0};  // tasks that are done
  alignas(64) std::atomic<int64_t> sleepers{0};
  std::mutex sleep;
  std::condition_variable wake;

  // What the coordinator is asked to do.
  std::mutex desk;
  std::condition_variable asked, answered;
  Plan* plan = nullptr;
  int64_t times = 0;
  int64_t status = 0;
  bool busy = false, finished = false;
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
};

// Claims and runs tasks until none is left; reports once.
void work(Pool& pool, int64_t member) {
  int64_t done = 0;
  int64_t open = pool.open.load(std::memory_order_acquire);
  while (open > 0) {
    if (!pool.open.compare_exchange_weak(open, open - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    // A claimed task keeps its phase published until it reports, so the fields below are stable.
    Launch launch = pool.launch;
    launch.scratch = pool.members[member].scratch;
    if (pool.cancel->load(std::memory_order_relaxed) != kNow) pool.function(&launch, pool.tasks - open);
    done++;
    // The next claim must belong to the same phase: this phase is not over before we report.
    open = pool.open.load(std::memory_order_acquire);
  }
  if (done > 0) pool.reported.fetch_add(done, std::memory_order_acq_rel);
}

void help(Pool* pool, int64_t member) {
  for (;;) {
    auto deadline = Clock::now() + kSpin;
    int spins = 0;
    while (pool->open.load(std::memory_order_acquire) == 0) {
      pause_briefly();
      if ((++spins & 63) != 0 || Clock::now() < deadline) continue;
      std::unique_lock<std::mutex> lock(pool->sleep);
      pool->sleepers.fetch_add(1, std::memory_order_seq_cst);
      pool->wake.wait(lock, [&] { return pool->stop.load() || pool->open.load(std::memory_order_seq_cst) != 0; });
      pool->sleepers.fetch_sub(1, std::memory_order_seq_cst);
      break;
    }
    if (pool->stop.load(std::memory_order_relaxed)) return;
    work(*pool, member);
  }
}

void run_phase(Pool& pool, Phase function, const Launch& launch, int64_t tasks, const std::atomic<int>& cancel) {
  if (tasks <= 0) return;
  if (tasks == 1 || pool.threads == 1) {
    Launch mine = launch;
    mine.scratch = pool.members[0].scratch;
    for (int64_t task = 0; task < tasks && cancel.load(std::memory_order_relaxed) != kNow; task++) function(&mine, task);
    return;
  }
  pool.function = function;
  pool.launch = launch;
  pool.tasks = tasks;
  pool.cancel = &cancel;
  pool.reported.store(0, std::memory_order_relaxed);
  pool.open.store(tasks, std::memory_order_seq_cst);
  if (pool.sleepers.load(std::memory_order_seq_cst) > 0) {
    { std::lock_guard<std::mutex> lock(pool.sleep); }
    if (tasks == 2) pool.wake.notify_one();
    else pool.wake.notify_all();
  }
  work(pool, 0);
  for (int spins = 0; pool.reported.load(std::memory_order_acquire) != tasks; spins++) {
    if (spins < 20000) pause_briefly();
    else std::this_thread::yield();  // more threads than processors: let the straggler run
  }
}

bool grow_scratch(Pool& pool, int64_t bytes) {
  for (Member& member : pool.members) {
    if (member.scratchBytes >= bytes) continue;
    memory_free(member.scratch, member.scratchBytes);
    member.scratchBytes = 0;
    const int64_t unit = bytes < kHugePage / 8 ? 4096 : kHugePage;
    const int64_t rounded = (bytes + unit - 1) / unit * unit;
    member.scratch = static_cast<char*>(memory_allocate(rounded));
    if (member.scratch == nullptr) return false;
    member.scratchBytes = rounded;
  }
  return true;
}

// 0: done; 1: cancelled; 2: no memory for scratch.
int64_t execute(Pool& pool, Plan& plan, int64_t times) {
  if (!grow_scratch(pool, plan.scratch)) return 2;
  for (int64_t repetition = 0; repetition < times; repetition++) {
    for (const Fill& fill : plan.fills) memset(fill.begin, 0xff, size_t(fill.bytes));
    auto before = Clock::now();
    for (size_t s = 0; s < plan.steps.size(); s++) {
      const Step& step = plan.steps[s];
      for (int64_t p = 0; p < step.phases; p++) {
        if (plan.cancel.load(std::memory_order_relaxed) == kNow) return 1;
        run_phase(pool, reinterpret_cast<Phase>(step.functions[p]), step.launch, step.tasks[p], plan.cancel);
      }
      auto after = Clock::now();
      plan.nanoseconds[s] += std::chrono::duration_cast<std::chrono::nanoseconds>(after - before).count();
      before = after;
    }
    if (plan.cancel.load(std::memory_order_relaxed) != kGoOn && (repetition + 1 < times || plan.cancel == kNow)) return 1;
  }
  return 0;
}

void coordinate(Pool* pool) {
  std::unique_lock<std::mutex> lock(pool->desk);
  for (;;) {
    pool->asked.wait(lock, [&] { return pool->stop.load() || pool->plan != nullptr; });
    if (pool->plan == nullptr) return;
    Plan* plan = pool->plan;
    int64_t times = pool->times;
    lock.unlock();
    int64_t status = execute(*pool, *plan, times);
    lock.lock();
    pool->plan = nullptr;
    pool->status = status;
    pool->finished = true;
    pool->answered.notify_all();
  }
}

// Signals belong to the thread that runs JavaScript.
struct SignalsBlocked {
  sigset_t before;
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before, nullptr); }
};

// ---- 16-bit floats -------------------------------------------------------------------------------------------------

uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// Nearest, ties to even; a NaN stays a NaN.
uint16_t bf16_of(float value) {
  uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t((bits >> 16) | 0x40);
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

uint16_t half_of(float value) {
  uint32_t bits = bits_of(value), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return uint16_t(sign | 0x7e00);
  if (magnitude >= 0x47800000) return uint16_t(sign | 0x7c00);
  // Below the smallest normal half: adding 0.5 aligns the last place of the sum with the last place of a subnormal.
  if (magnitude < 0x38800000) return uint16_t(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000));
  return uint16_t(sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13));
}

float float_of_half(uint16_t half) {
  uint32_t sign = uint32_t(half & 0x8000) << 16, rest = half & 0x7fff;
  if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  if (rest < 0x400) return float_of(sign | bits_of(float(rest) * 0x1p-24f));
  return float_of(sign | ((rest << 13) + 0x38000000));
}

enum Conversion : int64_t { kCopy = 0, kBf16 = 1, kHalf = 2 };

// Reads `count` words and moves on; false when fewer are left.
bool take(const int64_t*& cursor, const int64_t* end, int64_t count, const int64_t*& out) {
  if (count < 0 || end - cursor < count) return false;
  out = cursor;
  cursor += count;
  return true;
}

bool parse(Plan& plan) {
  const int64_t *cursor = plan.words.data(), *end = cursor + plan.words.size(), *head;
  if (!take(cursor, end, 3, head) || head[0] != kMagic) return false;
  const int64_t steps = head[1], fills = head[2];
  if (steps < 0 || fills < 0 || steps > end - cursor || fills > end - cursor) return false;
  for (int64_t i = 0; i < fills; i++) {
    if (!take(cursor, end, 2, head)) return false;
    plan.fills.push_back({reinterpret_cast<char*>(head[0]), head[1]});
  }
  plan.steps.reserve(size_t(steps));
  for (int64_t i = 0; i < steps; i++) {
    if (!take(cursor, end, 5, head)) return false;
    const int64_t *buffers, *sizes, *scalars;
    Step step{};
    step.scratch = head[0];
    step.phases = head[1];
    if (!take(cursor, end, step.phases, step.functions) || !take(cursor, end, step.phases, step.tasks) ||
        !take(cursor, end, head[2], buffers) || !take(cursor, end, head[3], sizes) ||
        !take(cursor, end, head[4], scalars))
      return false;
    step.launch = {reinterpret_cast<void* const*>(buffers), sizes, reinterpret_cast<const double*>(scalars), nullptr};
    if (step.scratch > plan.scratch) plan.scratch = step.scratch;
    plan.steps.push_back(step);
  }
  plan.nanoseconds.assign(size_t(steps), 0);
  return cursor == end;
}

}  // namespace

// ---- what JavaScript calls -----------------------------------------------------------------------------------------

/** Raised whenever a signature or the layout of the words below changes. */
SORACC_EXPORT int64_t host_version() { return 2; }

/**
 * Asks the system for the tile registers of AMX, which a process has to before it uses them: for all its threads, those
 * to come included. 1: granted; 0: refused, or no such processor.
 */
SORACC_EXPORT int64_t host_permit_tiles() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM of asm/prctl.h
  constexpr long kTileData = 18;               // the state component that holds them
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return 0;
#endif
}

/** Zeroed memory, aligned to 64 bytes; large pieces to 2 MiB, in huge pages where the system grants them. */
SORACC_EXPORT void* memory_allocate(int64_t bytes) {
  if (bytes < kHugePage) {
    void* small = aligned_alloc(kAlignment, size_t((bytes + kAlignment) / kAlignment * kAlignment));
    if (small != nullptr) memset(small, 0, size_t(bytes));
    return small;
  }
  const int64_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* mapped = mmap(nullptr, size_t(rounded + kHugePage), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char* begin = static_cast<char*>(mapped);
  char* aligned = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(begin) + kHugePage - 1) & ~uintptr_t(kHugePage - 1));
  if (aligned > begin) munmap(begin, size_t(aligned - begin));
  if (aligned < begin + kHugePage) munmap(aligned + rounded, size_t(begin + kHugePage - aligned));
#ifdef MADV_HUGEPAGE
  madvise(aligned, size_t(rounded), MADV_HUGEPAGE);
#endif
  return aligned;
}

SORACC_EXPORT void memory_free(void* memory, int64_t bytes) {
  if (bytes < kHugePage) free(memory);
  else if (memory != nullptr) munmap(memory, size_t((bytes + kHugePage - 1) / kHugePage * kHugePage));
}

/** Stores `count` elements: bytes as they are, or floats rounded to a 16-bit type. */
SORACC_EXPORT void memory_write(void* to, const void* from, int64_t count, int64_t conversion) {
  if (conversion == kCopy) {
    memcpy(to, from, size_t(count));
    return;
  }
  const float* source = static_cast<const float*>(from);
  uint16_t* target = static_cast<uint16_t*>(to);
  if (conversion == kBf16) for (int64_t i = 0; i < count; i++) target[i] = bf16_of(source[i]);
  else for (int64_t i = 0; i < count; i++) target[i] = half_of(source[i]);
}

/** Loads `count` elements: bytes as they are, or 16-bit floats widened. */
SORACC_EXPORT void memory_read(void* to, const void* from, int64_t count, int64_t conversion) {
  if (conversion == kCopy) {
    memcpy(to, from, size_t(count));
    return;
  }
  const uint16_t* source = static_cast<const uint16_t*>(from);
  float* target = static_cast<float*>(to);
  if (conversion == kBf16) for (int64_t i = 0; i < count; i++) target[i] = float_of(uint32_t(source[i]) << 16);
  else for (int64_t i = 0; i < count; i++) target[i] = float_of_half(source[i]);
}

SORACC_EXPORT void memory_fill(void* to, int64_t byte, int64_t bytes) { memset(to, int(byte), size_t(bytes)); }

/** Position of the first byte that is not `byte`; -1 when all are. */
SORACC_EXPORT int64_t memory_differs(const void* from, int64_t byte, int64_t bytes) {
  const unsigned char* at = static_cast<const unsigned char*>(from);
  for (int64_t i = 0; i < bytes; i++)
    if (at[i] != byte) return i;
  return -1;
}

SORACC_EXPORT void* library_open(const char* path) { return dlopen(path, RTLD_NOW | RTLD_LOCAL); }
SORACC_EXPORT void* library_symbol(void* library, const char* name) { return dlsym(library, name); }
SORACC_EXPORT void library_close(void* library) { dlclose(library); }

/** The last failure of library_open or library_symbol, cut to `bytes` with its final zero. */
SORACC_EXPORT void library_error(char* out, int64_t bytes) {
  const char* message = dlerror();
  if (bytes <= 0) return;
  strncpy(out, message == nullptr ? "" : message, size_t(bytes));
  out[bytes - 1] = 0;
}

SORACC_EXPORT void* pool_create(int64_t threads) {
  SignalsBlocked guard;
  Pool* pool = new (std::nothrow) Pool;
  if (pool == nullptr) return nullptr;
  pool->threads = threads < 1 ? 1 : threads;
  pool->members.resize(size_t(pool->threads));
  try {
    pool->workers.emplace_back(coordinate, pool);
    while (int64_t(pool->workers.size()) < pool->threads) pool->workers.emplace_back(help, pool, int64_t(pool->workers.size()));
  } catch (...) {
    // The system grants fewer threads than there are processors: go on with those that started.
    if (pool->workers.empty()) return nullptr;
    pool->threads = int64_t(pool->workers.size());
  }
  return pool;
}

/** Only when no plan of the pool runs. */
SORACC_EXPORT void pool_free(Pool* pool) {
  pool->stop.store(true);
  { std::lock_guard<std::mutex> lock(pool->desk); }
  pool->asked.notify_all();
  { std::lock_guard<std::mutex> lock(pool->sleep); }
  pool->wake.notify_all();
  for (std::thread& worker : pool->workers) worker.join();
  for (Member& member : pool->members) memory_free(member.scratch, member.scratchBytes);
  delete pool;
}

/**
 * Words: magic, steps, fills; per fill address and bytes; per step scratch, phases, buffers, sizes, scalars (counts),
 * then the phase functions, the tasks of each phase, the buffers' addresses, the sizes, the scalars as doubles.
 * Null when the words do not add up. The words are copied.
 */
SORACC_EXPORT Plan* plan_create(Pool* pool, const int64_t* words, int64_t count) {
  Plan* plan = new (std::nothrow) Plan;
  if (plan == nullptr) return nullptr;
  plan->pool = pool;
  plan->words.assign(words, words + count);
  if (parse(*plan)) return plan;
  delete plan;
  return nullptr;
}

/** Forgets an earlier cancellation; called before plan_run, so that a cancellation in between is kept. */
SORACC_EXPORT void plan_arm(Plan* plan) { plan->cancel.store(kGoOn); }

/** Runs the plan `times` times and returns when it is over. 0: done; 1: cancelled; 2: no memory for scratch. */
SORACC_EXPORT int64_t plan_run(Plan* plan, int64_t times) {
  Pool& pool = *plan->pool;
  std::unique_lock<std::mutex> lock(pool.desk);
  pool.answered.wait(lock, [&] { return !pool.busy; });
  pool.busy = true;
  pool.finished = false;
  pool.plan = plan;
  pool.times = times;
  pool.asked.notify_all();
  pool.answered.wait(lock, [&] { return pool.finished; });
  pool.busy = false;
  int64_t status = pool.status;
  pool.answered.notify_all();
  return status;
}

/** 1: stop after the repetition in progress; 2: stop after the tasks in progress. From any thread. */
SORACC_EXPORT void plan_cancel(Plan* plan, int64_t how) {
  int wanted = int(how), now = plan->cancel.load();
  while (now < wanted && !plan->cancel.compare_exchange_weak(now, wanted)) {
  }
}

/** Nanoseconds spent in each step since the plan was made. */
SORACC_EXPORT void plan_profile(const Plan* plan, double* out, int64_t steps) {
  for (int64_t s = 0; s < steps && s < int64_t(plan->nanoseconds.size()); s++) out[s] = double(plan->nanoseconds[s]);
}

/** Only when the plan does not run. */
SORACC_EXPORT void plan_free(Plan* plan) { delete plan; }
