// How the executor calls a kernel, and what a kernel may rely on.
//
// A kernel is one translation unit. For each of its phases it exports
//     extern "C" void <symbol>_<phase>(const Launch* launch, int64_t task);
// The tasks of a phase run in any order on any thread; phases and steps are separated by a barrier. A kernel shares
// work by task number alone, so its results depend on sizes and never on how many threads there are.
#pragma once

#include <stdint.h>

struct Launch {
  void* const* buffers;   // the operands in order, then the workspaces; each points at the place the plan binds
  const int64_t* sizes;   // values of the kernel's symbols, in its order
  const double* scalars;  // scalar arguments; exact for float, int32 and uint32
  char* scratch;          // private to the calling thread, 64-byte aligned, undefined content
};

// Phases are the only names a kernel shows to the outside.
#define SORACC_EXPORT extern "C" __attribute__((visibility("default")))
