// What is remembered about memory: for every two bytes, who wrote them last and who has read them since. An access is a
// pair of who (a thread of the block, or an engine of threads.hpp) and when, on the clock of that one.
//
// Readers are often many, and the same for long runs of bytes. A cell has one, or names a set of them; a set is made once
// and found again by what was added to what.
#pragma once

#include "threads.hpp"

namespace sim {

// An access in 31 bits.
constexpr uint32_t CLOCK_BITS = 20, CLOCK_MOST = (1u << CLOCK_BITS) - 1;
constexpr uint32_t access_of(uint32_t who, uint32_t when) { return who << CLOCK_BITS | when; }
inline uint32_t who_of(uint64_t access) { return static_cast<uint32_t>(access & 0x7fffffff) >> CLOCK_BITS; }
inline uint32_t when_of(uint64_t access) { return static_cast<uint32_t>(access) & CLOCK_MOST; }

// Bits of a word of a cell: an access or the number of a set, which of the two bytes, two marks, and the block, counted
// over all launches. A word of another block is as good as none in shared memory, and a race in global memory unless it
// comes from an earlier launch.
constexpr int BYTES_SHIFT = 31, MARK_SHIFT = 33, BLOCK_SHIFT = 34;
constexpr uint64_t MARK = uint64_t(1) << MARK_SHIFT;
constexpr uint32_t BOTH_BYTES = 3;

inline uint64_t word_of(uint32_t block, uint32_t bytes, uint32_t access) {
  return uint64_t(block) << BLOCK_SHIFT | uint64_t(bytes) << BYTES_SHIFT | access;
}
inline uint32_t block_of(uint64_t word) { return static_cast<uint32_t>(word >> BLOCK_SHIFT); }
inline uint32_t bytes_of(uint64_t word) { return static_cast<uint32_t>(word >> BYTES_SHIFT) & BOTH_BYTES; }

struct Cell {
  uint64_t write = 0;  // MARK: a copy that has not landed, issued by the thread of the access
  uint64_t read = 0;   // MARK: a set of readers
  // Where in the code, as offsets into the library.
  uint32_t write_place = 0, read_place = 0;
};

// In `write`: the bytes are an mbarrier.
constexpr uint32_t MBARRIER_ACCESS = access_of(2047, 0);
// In `read`: threads of several blocks.
constexpr uint32_t SEVERAL_BLOCKS = 0x7fffffff;

class ReaderSets {
 public:
  // Every reader so far comes before whatever follows: sets of smaller numbers count as empty.
  void forget() {
    if (starts.size() == 1) return;
    first += static_cast<uint32_t>(starts.size()) - 1;
    starts.assign(1, 0);
    accesses.clear();
  }

  bool is_live(uint32_t set) const { return set >= first; }
  const uint32_t* begin(uint32_t set) const { return accesses.data() + starts[set - first]; }
  const uint32_t* end(uint32_t set) const { return accesses.data() + starts[set - first + 1]; }

  // The set of `list` and `access`, without those that `comes_before` says are of no interest any more.
  template <class ComesBefore>
  uint32_t of(const uint32_t* from, const uint32_t* to, uint32_t access, ComesBefore comes_before) {
    kept.clear();
    for (const uint32_t* one = from; one < to; ++one) if (!comes_before(*one)) kept.push_back(*one);
    kept.push_back(access);
    accesses.insert(accesses.end(), kept.begin(), kept.end());
    starts.push_back(static_cast<uint32_t>(accesses.size()));
    return first + static_cast<uint32_t>(starts.size()) - 2;
  }

  // The set that is `base` (a set, or one access with `single`) and `access`. One that was made when less was known to
  // come before is larger than it need be, which does no harm.
  template <class ComesBefore>
  uint32_t with(uint32_t base, bool single, uint32_t access, ComesBefore comes_before) {
    Known& known = found[(base * 0x9e3779b1u ^ access * 0x85ebca77u) >> 20];
    if (known.base == base && known.single == single && known.access == access && is_live(known.result)) return known.result;
    if (single) {
      known.result = of(&base, &base + 1, access, comes_before);
    } else {
      copied.assign(begin(base), end(base));
      known.result = of(copied.data(), copied.data() + copied.size(), access, comes_before);
    }
    known.base = base, known.single = single, known.access = access;
    return known.result;
  }

 private:
  struct Known {
    uint32_t base = 0, access = 0, result = 0;
    bool single = false;
  };
  uint32_t first = 1;
  std::vector<uint32_t> starts = {0}, accesses, kept, copied;
  Known found[4096];
};

}  // namespace sim
