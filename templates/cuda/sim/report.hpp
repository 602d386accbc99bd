// What went wrong, as one line of JSON on standard output; whoever started the executor makes words of it. A kernel that
// does wrong ends the process: what it would do next means nothing.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <unistd.h>

namespace sim {

enum { FAULT_EXIT = 3 };

// An instruction of the kernel, as the address to which its call returns, and what happened there.
struct Place {
  const void* at;
  std::string what;
};

struct Fault {
  std::string message;
  std::vector<Place> places;
  std::vector<std::string> details;
};

inline std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));
inline std::string text(const char* format, ...) {
  char buffer[640];
  va_list list;
  va_start(list, format);
  vsnprintf(buffer, sizeof buffer, format, list);
  va_end(list);
  return buffer;
}

inline std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 32) out += c;
  }
  return out + '"';
}

// The loaded library of the kernel that runs: its code, and whatever constants came with it.
struct Library {
  std::string path;
  void* handle = nullptr;
  uintptr_t base = 0, first = 0, last = 0;
};
inline const Library* library = nullptr;

// Cells remember instructions as offsets into the library.
inline uint32_t offset_of(const void* place) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(place) - library->base);
}
inline const void* place_at(uint32_t offset) { return reinterpret_cast<const void*>(library->base + offset); }

inline std::string json(const Place& place) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(place.at) - 1;  // the call, not where it returns to
  if (library == nullptr || address < library->first || address >= library->last) {
    return "{\"what\": " + quoted(place.what) + "}";
  }
  Dl_info info = {};
  const bool named = dladdr(reinterpret_cast<void*>(address), &info) != 0 && info.dli_sname != nullptr;
  return "{\"what\": " + quoted(place.what) + ", \"library\": " + quoted(library->path) +
         ", \"offset\": " + std::to_string(address - library->base) +
         (named ? ", \"function\": " + quoted(info.dli_sname) : "") + "}";
}

[[noreturn]] void fail(const Fault& fault);

[[noreturn]] inline void fail_at(const void* place, const std::string& message) { fail({message, {{place, ""}}, {}}); }

}  // namespace sim
