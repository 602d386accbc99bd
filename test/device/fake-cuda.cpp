// A CUDA driver and an NVRTC without a GPU, for tests of the CUDA device. Device memory is memory of the process, the
// kernels of small-cuda-plans.ts are host functions of the same name, streams are queues that get on whenever somebody
// asks how they are doing. Whatever a real driver would not forgive is written down as a mistake.
//
// Environment: FAKE_CUDA_VERSION, FAKE_CUDA_GPUS, FAKE_CUDA_CAPABILITY (80: 8.0), FAKE_CUDA_MEMORY (bytes),
// FAKE_CUDA_PATIENCE (how often a stream says that it is not ready before a piece of work is done),
// FAKE_CUDA_FAULT (the kernel that fails), FAKE_CUDA_RESULT (how it does, 700: an illegal address),
// FAKE_CUDA_IDLE (1: kernels that have no function here do nothing),
// FAKE_NVRTC_VERSION (major), FAKE_NVRTC_CRASH (1: compiling ends the process).

#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

using Work = std::function<int()>;

struct Stream {
  std::deque<Work> queue;
  int patience = 0;
  bool capturing = false;
};
struct Event {
  bool happened = false, recorded = false, timed = false;
  double time = 0;
  Stream* stream = nullptr;
};
struct Graph {
  std::vector<Work> nodes;
};
struct Module {
  std::string text;
};
struct Function;
using Body = void (*)(const char* arguments, int64_t blocks);
struct Function {
  std::string name;
  Body body;
  int shared = 48 * 1024;
};

enum { kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kNoDevice = 100, kInvalidContext = 201, kNotFound = 500,
       kNotReady = 600, kIllegalAddress = 700, kNoBinary = 209 };

std::string mistakes;
std::map<std::string, int64_t> counts;
std::map<uint64_t, size_t> memory;   // device allocations
std::map<uint64_t, size_t> pinned;
std::set<Stream*> streams;
std::set<Event*> events;
std::set<Graph*> graphs, executables;
std::set<Module*> modules;
std::vector<std::unique_ptr<Function>> functions;
std::vector<std::string> launched;
int64_t contexts = 0;
uint64_t current = 0;
std::thread::id owner;
int broken = kSuccess;  // a fault stays
double now = 0;         // milliseconds of the GPU

int64_t setting(const char* name, int64_t fallback) {
  const char* text = getenv(name);
  return text == nullptr || *text == 0 ? fallback : atoll(text);
}

int mistake(const std::string& what, int result = kInvalidValue) {
  mistakes += what + "\n";
  return result;
}

// What every call that needs a context begins with.
int enter(const char* name) {
  counts[name]++;
  if (std::this_thread::get_id() != owner) return mistake(std::string(name) + " from another thread", kInvalidContext);
  if (current == 0) return mistake(std::string(name) + " without a current context", kInvalidContext);
  return broken;
}
#define ENTER(name) if (int failure = enter(name)) return failure

bool capturing() {
  for (Stream* stream : streams) if (stream->capturing) return true;
  return false;
}

std::vector<Work>* captured = nullptr;

int enqueue(Stream* stream, Work work) {
  if (streams.count(stream) == 0) return mistake("work on a stream that is not there");
  if (stream->capturing) captured->push_back(std::move(work));
  else stream->queue.push_back(std::move(work));
  return kSuccess;
}

// One question: answers not ready some times, then does one piece of work.
int advance(Stream* stream) {
  if (broken != kSuccess) return broken;
  if (stream->queue.empty()) return kSuccess;
  if (++stream->patience <= setting("FAKE_CUDA_PATIENCE", 2)) return kNotReady;
  stream->patience = 0;
  Work work = std::move(stream->queue.front());
  stream->queue.pop_front();
  if (int failure = work()) return broken = failure;
  return stream->queue.empty() ? kSuccess : kNotReady;
}

int drain(Stream* stream) {
  while (!stream->queue.empty()) {
    Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    if (int failure = work()) return broken = failure;
  }
  return broken;
}

bool inside(const std::map<uint64_t, size_t>& all, uint64_t address, size_t bytes) {
  auto next = all.upper_bound(address);
  if (next == all.begin()) return false;
  --next;
  return address + bytes <= next->first + next->second;
}

size_t used() {
  size_t sum = 0;
  for (auto& [_, bytes] : memory) sum += bytes;
  return sum;
}
size_t total() { return size_t(setting("FAKE_CUDA_MEMORY", int64_t(1) << 30)); }

// ---- kernels ----

struct Affine { const float* x; float* y; int64_t n; double scale, shift; };
struct Sum { const float* x; float* y; float* partial; int64_t n; };
struct Accumulate { const float* x; float* y; int64_t n; };
struct Ramp { float* y; int64_t n; };
struct Probe { uint64_t map[16]; float* y; int64_t n; };

void affine(const char* arguments, int64_t blocks) {
  const Affine& a = *reinterpret_cast<const Affine*>(arguments);
  for (int64_t i = 0; i < a.n && i < blocks * 64; i++) a.y[i] = float(a.scale) * a.x[i] + float(a.shift);
}
void sum_first(const char* arguments, int64_t blocks) {
  const Sum& a = *reinterpret_cast<const Sum*>(arguments);
  for (int64_t c = 0; c < blocks; c++) {
    a.partial[c] = 0;
    for (int64_t i = c * 64; i < c * 64 + 64 && i < a.n; i++) a.partial[c] += a.x[i];
  }
}
void sum_second(const char* arguments, int64_t) {
  const Sum& a = *reinterpret_cast<const Sum*>(arguments);
  a.y[0] = 0;
  for (int64_t c = 0; c < (a.n + 63) / 64; c++) a.y[0] += a.partial[c];
}
void accumulate(const char* arguments, int64_t) {
  const Accumulate& a = *reinterpret_cast<const Accumulate*>(arguments);
  for (int64_t i = 0; i < a.n; i++) a.y[i] += a.x[i];
}
void ramp(const char* arguments, int64_t) {
  const Ramp& a = *reinterpret_cast<const Ramp*>(arguments);
  for (int64_t i = 0; i < a.n; i++) a.y[i] = float(i);
}
void careless(const char* arguments, int64_t) {
  const Ramp& a = *reinterpret_cast<const Ramp*>(arguments);
  for (int64_t i = 0; i <= a.n; i++) a.y[i] = 1;
}
// What the tensor map in front of the arguments says.
void probe(const char* arguments, int64_t) {
  const Probe& a = *reinterpret_cast<const Probe*>(arguments);
  a.y[0] = a.map[0] == reinterpret_cast<uint64_t>(a.y) ? 1 : 0;
  for (int i = 1; i < 14; i++) a.y[i] = float(a.map[i]);
}

const std::map<std::string, Body> kBodies = {
    {"affine_map_0", affine}, {"sum_rows_0", sum_first}, {"sum_rows_1", sum_second}, {"accumulate_map_0", accumulate},
    {"ramp_map_0", ramp},     {"careless_map_0", careless}, {"probe_map_0", probe}, {"idle_map_0", [](const char*, int64_t) {}},
};

}  // namespace

#define API extern "C" __attribute__((visibility("default")))

// ---- for the test ----

API int64_t fake_count(const char* name) { return counts[name]; }
API void fake_mistakes(char* out, int64_t bytes) { strncpy(out, mistakes.c_str(), size_t(bytes) - 1); }
// Names of launched kernels in order, one per line.
API void fake_launched(char* out, int64_t bytes) {
  std::string all;
  for (auto& name : launched) all += name + "\n";
  strncpy(out, all.c_str(), size_t(bytes) - 1);
}
API int64_t fake_ran(const char* kernel) {
  int64_t times = 0;
  for (auto& name : launched) times += name == kernel;
  return times;
}
// Everything that was made and not given back.
API int64_t fake_alive() {
  return int64_t(memory.size() + pinned.size() + streams.size() + events.size() + graphs.size() + executables.size() +
                 modules.size()) + contexts;
}
// A new process, as far as this library can tell.
API void fake_restart() {
  mistakes.clear(), counts.clear(), launched.clear();
  for (auto& [address, _] : memory) free(reinterpret_cast<void*>(address));
  memory.clear(), pinned.clear(), streams.clear(), events.clear(), graphs.clear(), executables.clear(), modules.clear();
  contexts = 0, current = 0, broken = kSuccess, now = 0;
}

// ---- the driver ----

API int cuDriverGetVersion(int* version) { return *version = int(setting("FAKE_CUDA_VERSION", 12080)), kSuccess; }
// A new driver has results that nobody here has heard of.
API int cuGetErrorName(int result, const char** name) {
  if (result == 721) return *name = "CUDA_ERROR_CLUSTER_OUT_OF_RESOURCES", kSuccess;
  return *name = nullptr, kInvalidValue;
}
API int cuInit(uint32_t flags) {
  owner = std::this_thread::get_id();
  if (flags != 0) return mistake("cuInit with flags");
  return setting("FAKE_CUDA_GPUS", 1) == 0 ? kNoDevice : kSuccess;
}
API int cuDeviceGetCount(int* count) { return *count = int(setting("FAKE_CUDA_GPUS", 1)), kSuccess; }
API int cuDeviceGet(int* device, int ordinal) { return *device = ordinal + 40, kSuccess; }
API int cuDeviceGetName(char* name, int bytes, int device) {
  if (device != 40) return mistake("another GPU is asked for its name");
  return strncpy(name, "NVIDIA Fake", size_t(bytes)), kSuccess;
}
API int cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = total(), kSuccess; }
API int cuDeviceGetAttribute(int* value, int attribute, int device) {
  if (device != 40) return mistake("another GPU is asked for its attributes");
  int capability = int(setting("FAKE_CUDA_CAPABILITY", 80));
  switch (attribute) {
    case 16: *value = 108; return kSuccess;
    case 75: *value = capability / 10; return kSuccess;
    case 76: *value = capability % 10; return kSuccess;
    case 97: *value = 163 * 1024; return kSuccess;
  }
  return mistake("an attribute that nobody needs");
}
API int cuDevicePrimaryCtxRetain(uint64_t* context, int) { return contexts++, *context = 77, kSuccess; }
API int cuDevicePrimaryCtxRelease_v2(int) {
  if (contexts-- <= 0) return mistake("a context is released twice");
  return kSuccess;
}
API int cuCtxSetCurrent(uint64_t context) { return current = context, kSuccess; }

API int cuMemGetInfo_v2(size_t* free, size_t* all) {
  ENTER("cuMemGetInfo");
  return *all = total(), *free = total() - used(), kSuccess;
}
API int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  ENTER("cuMemAlloc");
  if (bytes == 0) return mistake("no bytes are allocated");
  if (capturing()) return mistake("memory is allocated during a capture");
  if (used() + bytes > total()) return kOutOfMemory;
  void* made = aligned_alloc(256, (bytes + 255) / 256 * 256);
  memset(made, 0x7b, bytes);
  *address = reinterpret_cast<uint64_t>(made);
  return memory[*address] = bytes, kSuccess;
}
API int cuMemFree_v2(uint64_t address) {
  ENTER("cuMemFree");
  if (memory.erase(address) == 0) return mistake("memory is freed that is not there");
  return free(reinterpret_cast<void*>(address)), kSuccess;
}
API int cuMemAllocHost_v2(uint64_t* address, size_t bytes) {
  ENTER("cuMemAllocHost");
  *address = reinterpret_cast<uint64_t>(aligned_alloc(4096, (bytes + 4095) / 4096 * 4096));
  return pinned[*address] = bytes, kSuccess;
}
API int cuMemFreeHost(uint64_t address) {
  ENTER("cuMemFreeHost");
  // The pages stay: a typed array of the test's process still covers them.
  return pinned.erase(address) == 1 ? kSuccess : mistake("pinned memory is freed that is not there");
}
API int cuMemcpyHtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, Stream* stream) {
  ENTER("cuMemcpyHtoDAsync");
  if (!inside(memory, to, bytes) || !inside(pinned, from, bytes)) return mistake("a copy to the GPU out of bounds");
  return enqueue(stream, [=] { return memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes), kSuccess; });
}
API int cuMemcpyDtoHAsync_v2(uint64_t to, uint64_t from, size_t bytes, Stream* stream) {
  ENTER("cuMemcpyDtoHAsync");
  if (!inside(pinned, to, bytes) || !inside(memory, from, bytes)) return mistake("a copy from the GPU out of bounds");
  return enqueue(stream, [=] { return memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes), kSuccess; });
}
API int cuMemsetD8Async(uint64_t address, uint8_t byte, size_t bytes, Stream* stream) {
  ENTER("cuMemsetD8Async");
  if (bytes == 0) return mistake("no bytes are filled");
  if (!inside(memory, address, bytes)) return mistake("memory is filled out of bounds");
  return enqueue(stream, [=] { return memset(reinterpret_cast<void*>(address), byte, bytes), kSuccess; });
}

API int cuStreamCreate(Stream** stream, uint32_t flags) {
  ENTER("cuStreamCreate");
  if (flags != 1) return mistake("a stream that waits for others");
  return streams.insert(*stream = new Stream), kSuccess;
}
API int cuStreamDestroy_v2(Stream* stream) {
  ENTER("cuStreamDestroy");
  if (streams.erase(stream) == 0) return mistake("a stream is destroyed twice");
  if (!stream->queue.empty()) return mistake("a stream is destroyed at work");
  return delete stream, kSuccess;
}
API int cuStreamQuery(Stream* stream) {
  ENTER("cuStreamQuery");
  if (stream->capturing) return mistake("a stream is asked during its capture");
  return advance(stream);
}
API int cuStreamSynchronize(Stream* stream) {
  ENTER("cuStreamSynchronize");
  if (stream->capturing) return mistake("a stream is waited for during its capture");
  return drain(stream);
}

API int cuEventCreate(Event** event, uint32_t flags) {
  ENTER("cuEventCreate");
  *event = new Event;
  (*event)->timed = (flags & 2) == 0;
  return events.insert(*event), kSuccess;
}
API int cuEventDestroy_v2(Event* event) {
  ENTER("cuEventDestroy");
  if (events.erase(event) == 0) return mistake("an event is destroyed twice");
  return delete event, kSuccess;
}
API int cuEventRecord(Event* event, Stream* stream) {
  ENTER("cuEventRecord");
  if (events.count(event) == 0 || stream->capturing) return mistake("an event is recorded where none is");
  event->happened = false, event->recorded = true, event->stream = stream;
  return enqueue(stream, [event] { return event->happened = true, event->time = now, kSuccess; });
}
API int cuEventQuery(Event* event) {
  ENTER("cuEventQuery");
  if (!event->recorded || event->happened) return kSuccess;
  int result = advance(event->stream);
  return event->happened ? kSuccess : result == kSuccess ? kNotReady : result;
}
API int cuEventElapsedTime(float* milliseconds, Event* first, Event* second) {
  ENTER("cuEventElapsedTime");
  if (!first->timed || !second->timed) return mistake("time between events that have none");
  if (!first->happened || !second->happened) return kNotReady;
  return *milliseconds = float(second->time - first->time), kSuccess;
}

API int cuModuleLoadData(Module** module, const char* image) {
  ENTER("cuModuleLoadData");
  if (strncmp(image, "FAKE CUBIN", 10) != 0) return kNoBinary;
  return modules.insert(*module = new Module{image}), kSuccess;
}
API int cuModuleUnload(Module* module) {
  ENTER("cuModuleUnload");
  if (modules.erase(module) == 0) return mistake("a module is unloaded twice");
  return delete module, kSuccess;
}
API int cuModuleGetFunction(Function** function, Module* module, const char* name) {
  ENTER("cuModuleGetFunction");
  auto body = kBodies.find(setting("FAKE_CUDA_IDLE", 0) == 1 ? "idle_map_0" : name);
  if (module->text.find(name) == std::string::npos || body == kBodies.end()) return kNotFound;
  functions.emplace_back(new Function{name, body->second});
  return *function = functions.back().get(), kSuccess;
}
API int cuFuncSetAttribute(Function* function, int attribute, int value) {
  ENTER("cuFuncSetAttribute");
  if (attribute != 8 || value <= 48 * 1024 || value > 163 * 1024) return mistake("an attribute that no kernel needs");
  return function->shared = value, kSuccess;
}
API int cuLaunchKernel(Function* function, uint32_t gx, uint32_t gy, uint32_t gz, uint32_t bx, uint32_t by, uint32_t bz,
                       uint32_t shared, Stream* stream, void** parameters, void** extra) {
  ENTER("cuLaunchKernel");
  if (gx == 0 || gy != 1 || gz != 1 || bx < 32 || bx > 1024 || by != 1 || bz != 1) return mistake("a grid of another form");
  if (shared > uint32_t(function->shared)) return mistake("more shared memory than was asked for");
  if (extra != nullptr || parameters == nullptr) return mistake("a launch without its arguments");
  auto given = std::make_shared<std::vector<char>>(4096);
  memcpy(given->data(), parameters[0], given->size());  // as the driver does, while the call runs
  return enqueue(stream, [=] {
    launched.push_back(function->name);
    const char* faulty = getenv("FAKE_CUDA_FAULT");
    if (faulty != nullptr && function->name == faulty) return int(setting("FAKE_CUDA_RESULT", kIllegalAddress));
    now += 0.25;
    return function->body(given->data(), gx), int(kSuccess);
  });
}

API int cuStreamBeginCapture_v2(Stream* stream, int mode) {
  ENTER("cuStreamBeginCapture");
  if (mode != 1 || stream->capturing || captured != nullptr) return mistake("a capture in another mode, or within one");
  captured = new std::vector<Work>;
  return stream->capturing = true, kSuccess;
}
API int cuStreamEndCapture(Stream* stream, Graph** graph) {
  ENTER("cuStreamEndCapture");
  if (!stream->capturing) return mistake("a capture ends that never began");
  stream->capturing = false;
  *graph = new Graph{std::move(*captured)};
  delete captured;
  captured = nullptr;
  return graphs.insert(*graph), kSuccess;
}
API int cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, uint64_t flags) {
  ENTER("cuGraphInstantiate");
  if (flags != 0 || graphs.count(graph) == 0) return mistake("a graph that is not there is made ready");
  return executables.insert(*executable = new Graph(*graph)), kSuccess;
}
API int cuGraphDestroy(Graph* graph) {
  ENTER("cuGraphDestroy");
  if (graphs.erase(graph) == 0) return mistake("a graph is destroyed twice");
  return delete graph, kSuccess;
}
API int cuGraphLaunch(Graph* executable, Stream* stream) {
  ENTER("cuGraphLaunch");
  if (executables.count(executable) == 0) return mistake("a graph that is not there is launched");
  for (auto& node : executable->nodes) if (int failure = enqueue(stream, node)) return failure;
  return kSuccess;
}
API int cuGraphExecDestroy(Graph* executable) {
  ENTER("cuGraphExecDestroy");
  if (executables.erase(executable) == 0) return mistake("a graph is destroyed twice");
  return delete executable, kSuccess;
}

API int cuTensorMapEncodeTiled(uint64_t* map, int type, uint32_t rank, uint64_t address, const uint64_t* sizes,
                               const uint64_t* strides, const uint32_t* box, const uint32_t* steps, int interleave,
                               int swizzle, int promotion, int fill) {
  if (reinterpret_cast<uint64_t>(map) % 64 != 0) return mistake("a tensor map at an odd address");
  if (address % 16 != 0 || rank < 1 || rank > 5 || interleave != 0 || fill != 0) return kInvalidValue;
  memset(map, 0, 128);
  uint64_t words[] = {address, uint64_t(type), rank, sizes[0], rank > 1 ? sizes[1] : 0, strides[0], box[0],
                      rank > 1 ? box[1] : 0, steps[0], steps[rank - 1], uint64_t(swizzle), uint64_t(promotion)};
  return memcpy(map, words, sizeof words), kSuccess;
}

// ---- NVRTC ----

struct Program {
  std::string source, log;
};

// A minor version that there is not: what it makes must never be taken from a cache for the work of a real one.
API int nvrtcVersion(int* major, int* minor) {
  return *major = int(setting("FAKE_NVRTC_VERSION", 12)), *minor = 99, kSuccess;
}
API int nvrtcCreateProgram(Program** program, const char* source, const char*, int, const char* const*, const char* const*) {
  return *program = new Program{source, ""}, kSuccess;
}
API int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
  for (int i = 0; i < count; i++) {
    if (strncmp(options[i], "--gpu-architecture=", 19) == 0) program->source += std::string("// ") + (options[i] + 19);
  }
  if (setting("FAKE_NVRTC_CRASH", 0) != 0 || program->source.find("crash_here") != std::string::npos) raise(SIGSEGV);
  while (program->source.find("never_ends") != std::string::npos) usleep(10000);
  if (program->source.find("undeclared_name") == std::string::npos) return kSuccess;
  program->log = "kernel.cu(9): error: identifier \"undeclared_name\" is undefined\n";
  return 6;
}
API int nvrtcGetProgramLogSize(Program* program, size_t* bytes) { return *bytes = program->log.size() + 1, kSuccess; }
API int nvrtcGetProgramLog(Program* program, char* log) {
  return memcpy(log, program->log.c_str(), program->log.size() + 1), kSuccess;
}
API int nvrtcGetCUBINSize(Program* program, size_t* bytes) { return *bytes = program->source.size() + 12, kSuccess; }
API int nvrtcGetCUBIN(Program* program, char* cubin) {
  memcpy(cubin, "FAKE CUBIN\n", 11);
  return memcpy(cubin + 11, program->source.c_str(), program->source.size() + 1), kSuccess;
}
API int nvrtcDestroyProgram(Program** program) { return delete *program, *program = nullptr, kSuccess; }
