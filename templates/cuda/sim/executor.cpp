// Runs launches of CUDA kernels that were compiled for this host:
//     executor JOB
// JOB is a text of lines: `memory PATH BASE BYTES`, `seed N`, `times N`, `library PATH`, then for every launch
//     launch LIBRARY SYMBOL BLOCKS THREADS SHARED ARGUMENTS ORIGIN       (arguments in hexadecimal)
//     buffer ADDRESS BYTES NAME                                          (all that the launch may touch)
// What a kernel does wrong ends the process with one line of JSON (report.hpp).
#include <algorithm>
#include <csignal>
#include <dlfcn.h>
#include <fcntl.h>
#include <fstream>
#include <link.h>
#include <sstream>
#include <sys/stat.h>
#include "products.hpp"

namespace sim {

// Blocks that take turns, so that one may wait for another.
constexpr int RESIDENT = 4;

typedef void (*Entry)(const void* arguments);
static Entry entry = nullptr;

void run_kernel() { entry(argument_block); }

[[noreturn]] void fail(const Fault& fault) {
  std::string places, details;
  for (void* place : fault.places) if (place != nullptr) places += (places.empty() ? "" : ", ") + place_json(place);
  for (const std::string& detail : fault.details) details += (details.empty() ? "" : ", ") + quoted(detail);
  printf("{\"message\": %s, \"kernel\": %s, \"origin\": %s, \"block\": %lld, \"thread\": %d, \"places\": [%s], \"details\": [%s]}\n",
         quoted(fault.message).c_str(), quoted(launch ? launch->symbol : "").c_str(), quoted(launch ? launch->origin : "").c_str(),
         current ? (long long)current->block->number : -1LL, current ? current->index : -1, places.c_str(), details.c_str());
  fflush(stdout);
  _exit(FAULT_EXIT);
}

static void crashed(int signal, siginfo_t* info, void*) {
  const char* const name = signal == SIGFPE ? "divides by zero" : "touches memory that does not exist";
  fail({text("a kernel %s (%p)", name, info->si_addr), {}, {}});
}

static std::unique_ptr<Block> open_block(int64_t number) {
  auto block = std::make_unique<Block>();
  block->number = number;
  block->threads_alive = launch->threads;
  block->memory.assign(launch->shared_bytes + 2 * GUARD_BYTES, 0xff);
  const uintptr_t begin = reinterpret_cast<uintptr_t>(block->memory.data()) + GUARD_BYTES;
  block->shared = reinterpret_cast<uint8_t*>(begin / 1024 * 1024);
  block->cells = std::vector<Cell>(launch->shared_bytes / CELL_BYTES + 1);
  block->warps.resize((launch->threads + WARP - 1) / WARP);
  block->warpgroups.resize(block->warps.size() / 4 + 1);
  block->registers.resize(block->warpgroups.size());
  for (int i = 0; i < launch->threads; ++i) {
    auto thread = std::make_unique<Thread>();
    thread->block = block.get();
    thread->index = i;
    thread->stack = take_stack();
    thread->clock.assign(launch->threads + 1, 0);
    thread->clock[i] = 1;
    prepare_stack(*thread);
    block->threads.push_back(std::move(thread));
  }
  return block;
}

static void close_block(Block& block) {
  for (auto& thread : block.threads) idle_stacks.push_back(thread->stack);
}

static bool run_thread(Thread& thread) {
  if (thread.done || thread.waits) return false;
  current = &thread;
  sim_switch(&scheduler_pointer, thread.stack_pointer);
  current = nullptr;
  return true;
}

// Every warp of a block that can, in an order that is drawn; then perhaps a copy that is under way.
static bool run_block(Block& block) {
  bool moved = false;
  std::vector<int> order(block.warps.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::shuffle(order.begin(), order.end(), dice);
  for (const int warp : order) {
    for (int lane = 0; lane < WARP; ++lane) {
      const size_t index = static_cast<size_t>(warp * WARP + lane);
      if (index < block.threads.size()) moved = run_thread(*block.threads[index]) || moved;
    }
  }
  if (!block.flying.empty() && (!moved || dice() % 4 == 0)) {
    current = block.threads[0].get();
    land_tensor(block, dice() % block.flying.size());
    current = nullptr;
    return true;
  }
  return moved;
}

[[noreturn]] static void report_deadlock(Block& block) {
  std::map<std::string, std::pair<int, int>> sites; // how many, and the first of them
  int done = 0;
  for (auto& thread : block.threads) {
    if (thread->done) {
      ++done;
      continue;
    }
    const std::string where = thread->line == 0 ? thread->wanted : text("%s in line %d", thread->wanted.c_str(), thread->line);
    auto& site = sites.emplace(where, std::make_pair(0, thread->index)).first->second;
    ++site.first;
  }
  Fault fault = {"deadlock: no thread of the block can go on", {}, {}};
  for (const auto& [where, site] : sites) fault.details.push_back(text("%d threads, the first of them %d, wait for %s", site.first, site.second, where.c_str()));
  if (done > 0) fault.details.push_back(text("%d threads have returned", done));
  current = block.threads[0].get();
  fail(fault);
}

static void run_launch() {
  if (launch->arguments.size() > sizeof argument_block) fail({"a launch has more arguments than a kernel can take", {}, {}});
  memcpy(argument_block, launch->arguments.data(), launch->arguments.size());
  std::vector<std::unique_ptr<Block>> resident;
  int64_t next = 0;
  while (next < launch->blocks || !resident.empty()) {
    while (next < launch->blocks && static_cast<int>(resident.size()) < RESIDENT) resident.push_back(open_block(next++));
    bool moved = false;
    for (auto& block : resident) moved = run_block(*block) || moved;
    for (size_t i = 0; i < resident.size();) {
      if (resident[i]->threads_alive > 0) {
        ++i;
        continue;
      }
      close_block(*resident[i]);
      resident.erase(resident.begin() + static_cast<long>(i));
      moved = true;
    }
    if (!moved) report_deadlock(*resident[0]);
  }
}

static int note_library(dl_phdr_info* info, size_t, void* wanted) {
  const std::string path = info->dlpi_name;
  if (path != *static_cast<std::string*>(wanted)) return 0;
  uintptr_t first = UINTPTR_MAX, last = 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    first = std::min<uintptr_t>(first, info->dlpi_addr + segment.p_vaddr);
    last = std::max<uintptr_t>(last, info->dlpi_addr + segment.p_vaddr + segment.p_memsz);
  }
  mapped.push_back({path, first, last, info->dlpi_addr});
  return 1;
}

static std::vector<uint8_t> bytes_of(const std::string& hexadecimal) {
  std::vector<uint8_t> bytes(hexadecimal.size() / 2);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(std::stoi(hexadecimal.substr(2 * i, 2), nullptr, 16));
  return bytes;
}

static int run_job(const char* path) {
  std::ifstream job(path);
  if (!job) return 2;
  std::vector<void*> libraries;
  std::vector<Launch> launches;
  std::string line;
  uint64_t times = 1, seed = 0;
  while (std::getline(job, line)) {
    std::istringstream words(line);
    std::string kind;
    words >> kind;
    if (kind == "memory") {
      std::string file;
      uint64_t base, bytes;
      words >> file >> base >> bytes;
      const int descriptor = open(file.c_str(), O_RDWR);
      void* const wanted = reinterpret_cast<void*>(base);
      if (descriptor < 0 || mmap(wanted, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, descriptor, 0) != wanted) {
        fail({text("the memory file %s cannot be mapped", file.c_str()), {}, {}});
      }
    } else if (kind == "seed") {
      words >> seed;
    } else if (kind == "times") {
      words >> times;
    } else if (kind == "library") {
      std::string file;
      words >> file;
      void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (library == nullptr) fail({text("the library %s cannot be loaded: %s", file.c_str(), dlerror()), {}, {}});
      dl_iterate_phdr(note_library, &file);
      libraries.push_back(library);
    } else if (kind == "launch") {
      Launch one;
      std::string arguments;
      words >> one.library >> one.symbol >> one.blocks >> one.threads >> one.shared_bytes >> arguments;
      std::getline(words >> std::ws, one.origin);
      one.arguments = bytes_of(arguments);
      launches.push_back(std::move(one));
    } else if (kind == "buffer") {
      Buffer buffer;
      words >> buffer.address >> buffer.bytes;
      std::getline(words >> std::ws, buffer.name);
      launches.back().buffers.push_back(std::move(buffer));
    }
  }
  dice.seed(seed);
  for (uint64_t i = 0; i < times; ++i) {
    for (const Launch& one : launches) {
      launch = &one;
      void* const symbol = dlsym(libraries[one.library], (one.symbol + "_sim").c_str());
      if (symbol == nullptr) fail({text("the library has no function %s", one.symbol.c_str()), {}, {}});
      entry = reinterpret_cast<Entry>(symbol);
      run_launch();
    }
  }
  return 0;
}

}  // namespace sim

int main(int count, char** words) {
  static uint8_t stack[64 * 1024];
  stack_t alternative = {};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof stack;
  sigaltstack(&alternative, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = sim::crashed;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigaction(signal, &action, nullptr);
  return count == 2 ? sim::run_job(words[1]) : 2;
}
