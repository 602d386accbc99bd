// What went wrong, as one line of JSON on standard output; whoever started the executor makes words of it. A kernel that
// does wrong ends the process: what it would do next means nothing.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unistd.h>
#include <vector>

namespace sim {

enum { FAULT_EXIT = 3 };

struct Fault {
  std::string message;
  // Instructions that took part, for line numbers; and lines that are known already.
  std::vector<void*> places;
  std::vector<std::string> details;
};

inline std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 32) out += c;
  }
  return out + '"';
}

// Where each library lies, so that a place can be told as an offset into a file.
struct Mapped {
  std::string path;
  uintptr_t first, last, base;
};
inline std::vector<Mapped> mapped;

inline std::string place_json(void* place) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(place) - 1; // the call, not where it returns to
  for (const Mapped& one : mapped) {
    if (address < one.first || address >= one.last) continue;
    return "{\"library\": " + quoted(one.path) + ", \"offset\": " + std::to_string(address - one.base) + "}";
  }
  return "null";
}

[[noreturn]] void fail(const Fault& fault);

inline std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));
inline std::string text(const char* format, ...) {
  char buffer[512];
  va_list list;
  va_start(list, format);
  vsnprintf(buffer, sizeof buffer, format, list);
  va_end(list);
  return buffer;
}

}  // namespace sim
