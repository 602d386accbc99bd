// Runs launches of CUDA kernels that were compiled for this host, one after the other and on one processor:
//     executor JOB
// JOB is a text of lines: `memory BASE BYTES PATH`, `seed N`, `times N`, `library PATH`, then for every launch
//     launch LIBRARY SYMBOL BLOCKS THREADS SHARED ARGUMENTS ORIGIN       (arguments in hexadecimal)
//     buffer ADDRESS BYTES NAME                                          (all that the launch may touch)
// What a kernel does wrong ends the process with one line of JSON (report.hpp).
//
// The files, in the order in which they build on each other:
//     report.hpp     faults                        threads.hpp   fibers and what they are made of
//     cells.hpp      what is remembered of memory  blocks.hpp    who runs next
//     clocks.hpp     what comes before what        memory.hpp    what every access has to keep to
//     hooks.hpp      every load and store          warps.hpp     shuffles, matrices, products of a warp
//     barriers.hpp   barriers of a block           copies.hpp    cp.async
//     tensors.hpp    mbarriers, tensor copies      products.hpp  products of a warpgroup
#include <csignal>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <link.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <ucontext.h>

#include "products.hpp"

namespace sim {

// Seconds of computing in a row with neither a load nor a store nor a barrier.
constexpr int STUCK_SECONDS = 20;

typedef void (*Entry)(const void* arguments);
static Entry entry = nullptr;
static uint32_t next_owner = 1;

[[noreturn]] void fail(const Fault& fault) {
  std::string places, details;
  for (const Place& place : fault.places) places += (places.empty() ? "" : ", ") + json(place);
  for (const std::string& detail : fault.details) details += (details.empty() ? "" : ", ") + quoted(detail);
  printf("{\"message\": %s, \"kernel\": %s, \"origin\": %s, \"block\": %lld, \"thread\": %lld, \"places\": [%s], \"details\": [%s]}\n",
         quoted(fault.message).c_str(), quoted(launch ? launch->symbol : "").c_str(), quoted(launch ? launch->origin : "").c_str(),
         current ? (long long)current->block->number : -1LL, current ? (long long)current->index : -1LL, places.c_str(), details.c_str());
  fflush(stdout);
  _exit(FAULT_EXIT);
}

// --- blocks ---------------------------------------------------------------------------------------------------------

static void thread_main() {
  entry(argument_block);
  Thread& self = *current;
  self.done = true;
  leave_warp(self);
  stop(self);
  if (--self.block->alive > 0) give_way();
  // The last one out: the scheduler goes on, and opens the next block.
  sim_switch(&self.stack_pointer, scheduler_pointer);
  abort();
}

// Room for blocks of the launch's shape.
static void shape_block(Block& block, uint8_t* shared) {
  block.shared = shared;
  if (block.cells.size() < launch->shared_bytes / 2 + 1) block.cells.resize(launch->shared_bytes / 2 + 1);
  if (block.count == launch->threads) return;
  for (Thread& thread : block.threads) idle_stacks.push_back(thread.stack);
  block.count = launch->threads;
  block.width = block.count + ENGINES;
  block.threads.clear();
  block.threads.resize(block.count);
  block.warps.clear();
  block.warps.resize((block.count + WARP - 1) / WARP);
  block.clocks.assign(size_t(block.count + 16) * 2 * block.width, 0);
  uint32_t* clocks = block.clocks.data();
  const auto take = [&]() -> Knowledge {
    clocks += 2 * block.width;
    return {clocks - 2 * block.width, clocks - block.width};
  };
  for (uint32_t i = 0; i < block.count; ++i) {
    Thread& thread = block.threads[i];
    thread.block = &block;
    thread.warp = &block.warps[i / WARP];
    thread.index = i;
    thread.lane = i % WARP;
    thread.stack = take_stack();
    thread.knowledge = take();
    thread.warp->full |= 1u << thread.lane;
  }
  for (uint32_t i = 0; i < block.warps.size(); ++i) {
    block.warps[i].block = &block;
    block.warps[i].index = i;
  }
  for (Barrier& barrier : block.barriers) barrier.gathered = take();
}

static void open_block(Block& block, int64_t number) {
  block.number = number;
  block.owner = next_owner++;
  block.alive = block.count;
  // Clocks go on from one block to the next, so that what was known before means nothing; engines begin anew.
  uint32_t latest = 0;
  for (const Thread& thread : block.threads) latest = latest > thread.clock ? latest : thread.clock;
  if (block.engines || block.fences || latest > CLOCK_MOST / 2) {
    std::fill(block.clocks.begin(), block.clocks.end(), 0);
    latest = 0;
  }
  block.engines = block.fences = false;
  block.floor = latest + 1;
  block.readers.forget();
  block.mbarriers.clear();
  block.flying.clear();
  for (Barrier& barrier : block.barriers) {
    barrier.arrived = 0;
    memset(barrier.lanes, 0, sizeof barrier.lanes);
    barrier.waiting.clear();
  }
  const uint32_t each = REGISTERS / (static_cast<uint32_t>(block.warps.size()) * WARP), registers = (each < 256 ? each : 256) & ~7u;
  block.free_registers = REGISTERS;
  block.ready_warps = 0;
  for (Warp& warp : block.warps) {
    warp.live = warp.ready = warp.full;
    warp.arrived = 0;
    warp.rotation = 0;
    warp.products.reset();
    warp.registers = registers;
    block.free_registers -= registers * WARP;
    block.ready_warps |= 1u << warp.index;
  }
  for (Thread& thread : block.threads) {
    thread.clock = latest;
    later(thread);
    thread.learned = 0;
    thread.waiting = Waiting::nothing;
    thread.done = false;
    thread.place = nullptr;
    thread.open.clear();
    thread.groups.clear();
    thread.landed = 0;
    thread.commits.clear();
    thread.fence_seen = false;
    thread.tracked_count = 0;
    prepare_stack(thread, thread_main);
  }
  memset(block.shared, 0xff, launch->shared_bytes);
}

static void close_block(Block& block) {
  if (!block.flying.empty()) fail_at(block.flying[0].place, "a block is over while a tensor copy of it is under way");
  check_products(block);
}

static void run_launch() {
  static std::vector<std::unique_ptr<Block>> blocks;
  static uint8_t* shared = nullptr;
  if (launch->threads < 1 || launch->threads > 1024) fail({text("a launch of blocks of %u threads", launch->threads), {}, {}});
  if (launch->shared_bytes > SHARED_MOST) fail({text("a launch of blocks with %u bytes of shared memory", launch->shared_bytes), {}, {}});
  if (shared == nullptr) {
    shared = static_cast<uint8_t*>(mmap(nullptr, size_t(RESIDENT_MOST) * SHARED_STRETCH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (shared == MAP_FAILED) fail({"there is no memory for shared memory", {}, {}});
    shared += (uintptr_t(1024) - reinterpret_cast<uintptr_t>(shared) % 1024) % 1024;
  }
  const uint32_t fitting = RESIDENT_THREADS / launch->threads;
  const uint32_t most = fitting < 1 ? 1 : fitting < RESIDENT_MOST ? fitting : RESIDENT_MOST;
  launch_owner = next_owner;
  schedule.resident.clear();
  schedule.warp = nullptr;
  schedule.turn = 0;
  int64_t next = 0;
  for (; next < most && next < launch->blocks; ++next) {
    const size_t slot = static_cast<size_t>(next);
    if (blocks.size() <= slot) blocks.push_back(std::make_unique<Block>());
    shape_block(*blocks[slot], shared + slot * SHARED_STRETCH + SHARED_BEFORE);
    open_block(*blocks[slot], next);
    schedule.resident.push_back(blocks[slot].get());
  }
  while (!schedule.resident.empty()) {
    current = next_thread();
    schedule.patience = PATIENCE;
    sim_switch(&scheduler_pointer, current->stack_pointer);
    Block& over = *current->block;
    close_block(over);
    current = nullptr;
    schedule.warp = nullptr;
    if (next < launch->blocks) {
      open_block(over, next++);
    } else {
      for (size_t i = 0; i < schedule.resident.size(); ++i) {
        if (schedule.resident[i] == &over) schedule.resident.erase(schedule.resident.begin() + static_cast<long>(i));
      }
    }
  }
}

// --- signals --------------------------------------------------------------------------------------------------------

static const void* instruction_of(void* context) {
#if defined(__x86_64__)
  return reinterpret_cast<const void*>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] + 1);
#else
  return reinterpret_cast<const void*>(static_cast<ucontext_t*>(context)->uc_mcontext.pc + 1);
#endif
}

static void crashed(int signal, siginfo_t* info, void* context) {
  const void* const at = instruction_of(context);
  const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
  const bool in_kernel = library != nullptr && reinterpret_cast<uintptr_t>(at) - library->first < library->last - library->first;
  if (current != nullptr && address - reinterpret_cast<uintptr_t>(current->stack) < PAGE) {
    fail_at(at, text("thread %u has more local variables and calls than its stack of %zu bytes holds", current->index, STACK_BYTES - PAGE));
  }
  const char* const doing = signal == SIGFPE ? "divides an integer by zero" : signal == SIGILL ? "reaches what must not be reached" : "touches memory that does not exist";
  if (in_kernel && current != nullptr) fail_at(at, text("thread %u %s", current->index, doing));
  fail({text("the simulator itself %s (signal %d, address %p)", doing, signal, info->si_addr), {}, {}});
}

static void watch(int, siginfo_t*, void* context) {
  static uint64_t seen = 0;
  static const Thread* whom = nullptr;
  const uint64_t now = schedule.switches + schedule.patience;
  if (current != nullptr && whom == current && seen == now) {
    fail_at(instruction_of(context), text("thread %u has computed for %d seconds without touching memory", current->index, STUCK_SECONDS));
  }
  seen = now;
  whom = current;
}

static void catch_signals() {
  static uint8_t stack[256 * 1024];
  stack_t alternative = {};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof stack;
  sigaltstack(&alternative, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = crashed;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) sigaction(signal, &action, nullptr);
  action.sa_sigaction = watch;
  sigaction(SIGVTALRM, &action, nullptr);
  const itimerval timer = {{STUCK_SECONDS, 0}, {STUCK_SECONDS, 0}};
  setitimer(ITIMER_VIRTUAL, &timer, nullptr);
}

// --- the job --------------------------------------------------------------------------------------------------------

static int note_library(dl_phdr_info* info, size_t, void* wanted) {
  Library& one = *static_cast<Library*>(wanted);
  if (one.path != info->dlpi_name) return 0;
  one.base = info->dlpi_addr;
  one.first = UINTPTR_MAX;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    const uintptr_t first = info->dlpi_addr + segment.p_vaddr, last = first + segment.p_memsz;
    one.first = one.first < first ? one.first : first;
    one.last = one.last > last ? one.last : last;
  }
  return 1;
}

static void open_memory(uint64_t base, uint64_t bytes, const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDWR);
  void* const wanted = reinterpret_cast<void*>(base);
  if (descriptor < 0 || mmap(wanted, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, descriptor, 0) != wanted) {
    fail({text("the memory file %s cannot be mapped", path.c_str()), {}, {}});
  }
  const size_t room = (bytes / 2 + 1) * sizeof(Cell);
  void* const cells = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (cells == MAP_FAILED) fail({text("there is no memory for what is remembered of %llu bytes", (unsigned long long)bytes), {}, {}});
  device = {base, bytes, static_cast<Cell*>(cells)};
}

static std::vector<uint8_t> bytes_of_text(const std::string& hexadecimal) {
  const auto digit = [](char c) { return static_cast<uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10); };
  std::vector<uint8_t> bytes(hexadecimal.size() / 2);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(digit(hexadecimal[2 * i]) << 4 | digit(hexadecimal[2 * i + 1]));
  return bytes;
}

static Library open_library(const std::string& path) {
  Library one;
  one.path = path;
  one.handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (one.handle == nullptr) fail({text("the library %s cannot be loaded: %s", path.c_str(), dlerror()), {}, {}});
  dl_iterate_phdr(note_library, &one);
  return one;
}

static void start(const Launch& one, const std::vector<Library>& libraries) {
  launch = &one;
  library = &libraries[one.library];
  void* const symbol = dlsym(library->handle, (one.symbol + "_sim").c_str());
  void* const size = dlsym(library->handle, (one.symbol + "_bytes").c_str());
  if (symbol == nullptr || size == nullptr) fail({text("the library has no function %s", one.symbol.c_str()), {}, {}});
  entry = reinterpret_cast<Entry>(symbol);
  // Either may be filled up to the alignment of tensor maps.
  const size_t expected = reinterpret_cast<size_t (*)()>(size)(), given = one.arguments.size();
  if ((given + 63) / 64 != (expected + 63) / 64 || given > ARGUMENTS_MOST) {
    fail({text("a launch hands over %zu bytes of arguments, the kernel takes %zu", given, expected), {}, {}});
  }
  memcpy(argument_block, one.arguments.data(), given);
  run_launch();
}

static int run_job(const char* path) {
  std::ifstream job(path);
  if (!job) return 2;
  std::vector<Library> libraries;
  std::vector<Launch> launches;
  std::string line, kind, rest;
  uint64_t times = 1, seed = 0;
  while (std::getline(job, line)) {
    std::istringstream words(line);
    words >> kind;
    if (kind == "memory") {
      uint64_t base, bytes;
      words >> base >> bytes;
      std::getline(words >> std::ws, rest);
      open_memory(base, bytes, rest);
    } else if (kind == "seed") {
      words >> seed;
    } else if (kind == "times") {
      words >> times;
    } else if (kind == "library") {
      std::getline(words >> std::ws, rest);
      libraries.push_back(open_library(rest));
    } else if (kind == "launch") {
      Launch one;
      words >> one.library >> one.symbol >> one.blocks >> one.threads >> one.shared_bytes >> rest;
      one.arguments = bytes_of_text(rest);
      std::getline(words >> std::ws, one.origin);
      launches.push_back(std::move(one));
    } else if (kind == "buffer") {
      Buffer buffer;
      words >> buffer.address >> buffer.bytes;
      std::getline(words >> std::ws, buffer.name);
      if (buffer.address < device.base || buffer.address + buffer.bytes > device.base + device.bytes) {
        launch = &launches.back();
        fail({text("buffer %s lies outside of the memory file", buffer.name.c_str()), {}, {}});
      }
      launches.back().buffers.push_back(std::move(buffer));
    }
  }
  dice_state = (seed + 1) * 0x9e3779b97f4a7c15ull | 1;
  for (uint64_t i = 0; i < times; ++i) {
    for (const Launch& one : launches) start(one, libraries);
  }
  return 0;
}

}  // namespace sim

int main(int count, char** words) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // nobody is left to read what comes of it
  sim::catch_signals();
  return count == 2 ? sim::run_job(words[1]) : 2;
}
