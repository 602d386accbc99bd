// What every access has to keep to: inside a buffer or the block's shared memory, after somebody wrote there, and ordered
// against the accesses of others to the same bytes.
//
// Two threads that use different bytes of one cell do not meet; the cell then remembers only the later one, so that
// mistakes with single bytes can be missed but never invented.
#pragma once

#include "clocks.hpp"

namespace sim {

// Device memory, and its cells.
struct DeviceMemory {
  uintptr_t base = 0, bytes = 0;
  Cell* cells = nullptr;
};
inline DeviceMemory device;
// The first block of the launch that runs, as cells have it.
inline uint32_t launch_owner = 1;

inline std::string who(const Block& block, uint32_t one) {
  if (one < block.count) return text("thread %u", one);
  if (one < block.count + MBARRIERS_MOST) return "a tensor copy";
  return text("a wgmma of warp %u", one - block.count - MBARRIERS_MOST);
}

inline const Buffer* nearest_buffer(uintptr_t address) {
  const Buffer* nearest = nullptr;
  uint64_t closest = UINT64_MAX;
  for (const Buffer& buffer : launch->buffers) {
    const uint64_t distance = address < buffer.address ? buffer.address - address
                              : address < buffer.address + buffer.bytes ? 0 : address - buffer.address - buffer.bytes + 1;
    if (distance < closest) closest = distance, nearest = &buffer;
  }
  return nearest;
}

inline std::string place_name(bool in_shared, uint64_t offset) {
  if (in_shared) return text("shared + %lld", (long long)offset);
  const Buffer* const buffer = nearest_buffer(device.base + offset);
  if (buffer == nullptr) return text("device memory + %llu", (unsigned long long)offset);
  return text("%s + %lld", buffer->name.c_str(), (long long)(device.base + offset - buffer->address));
}

// --- accesses that exclude each other -------------------------------------------------------------------------------

// One access to one cell, for reports.
struct Attempt {
  Thread& thread;  // whose knowledge counts
  uint32_t actor;  // thread or engine
  bool in_shared;
  uint64_t offset;
  const void* place;
  const char* does;  // "reads", "writes", "overwrites"
};

[[noreturn]] inline void report_race(const Attempt& now, uint32_t block, uint32_t earlier, const char* did, uint32_t place) {
  const Block& own = *now.thread.block;
  const std::string me = who(own, now.actor), at = place_name(now.in_shared, now.offset);
  if (block != own.owner) {
    const std::string other = text("%s of block %u", who(own, earlier).c_str(), block - launch_owner);
    fail({text("race: %s %s %s, which %s %s in the same launch", me.c_str(), now.does, at.c_str(), other.c_str(), did),
          {{now.place, me + " " + now.does}, {place_at(place), other + " " + did}}, {}});
  }
  const std::string other = who(own, earlier);
  const bool awaited = earlier < own.count;
  fail({text("race: %s %s %s, which %s %s, with no %s between them", me.c_str(), now.does, at.c_str(), other.c_str(), did,
             awaited ? "barrier" : "wait"),
        {{now.place, me + " " + now.does}, {place_at(place), other + " " + did}}, {}});
}

[[noreturn]] inline void report_landing(const Attempt& now, const Cell& cell) {
  const Block& own = *now.thread.block;
  const std::string me = who(own, now.actor), issuer = who(own, who_of(cell.write));
  const std::string other = who_of(cell.write) < own.count ? "a copy of " + issuer : issuer;
  fail({text("%s %s shared + %llu, where %s has not landed: its wait is missing", me.c_str(), now.does,
             (unsigned long long)now.offset, other.c_str()),
        {{now.place, me + " " + now.does}, {place_at(cell.write_place), other + " begins"}}, {}});
}

// Against the last write. `bytes` are those of the cell that are accessed.
template <bool SHARED>
inline void after_write(const Attempt& now, const Cell& cell, uint32_t bytes) {
  const uint64_t write = cell.write;
  const uint32_t owner = now.thread.block->owner;
  if (block_of(write) != owner) {
    if (!SHARED && block_of(write) >= launch_owner && (bytes_of(write) & bytes) != 0) {
      report_race(now, block_of(write), who_of(write), "writes", cell.write_place);
    }
    return;
  }
  if ((bytes_of(write) & bytes) == 0) return;
  if (SHARED && (write & MARK) != 0) report_landing(now, cell);
  if (SHARED && (write & 0x7fffffff) == MBARRIER_ACCESS) {
    fail({text("%s %s shared + %llu, which is an mbarrier", who(*now.thread.block, now.actor).c_str(), now.does,
               (unsigned long long)now.offset),
          {{now.place, ""}, {place_at(cell.write_place), "mbarrier_init"}}, {}});
  }
  if (!is_before(now.thread, who_of(write), when_of(write))) report_race(now, owner, who_of(write), "writes", cell.write_place);
}

// Against all reads since then.
template <bool SHARED>
inline void after_reads(Attempt now, const Cell& cell, uint32_t bytes) {
  const uint64_t read = cell.read;
  if (read == 0 || (bytes_of(read) & bytes) == 0) return;
  Block& block = *now.thread.block;
  const uint32_t owner = block_of(read), access = read & 0x7fffffff;
  const bool set = (read & MARK) != 0;
  now.does = "overwrites";
  if (!SHARED && owner >= launch_owner && (owner != block.owner || (set && access == SEVERAL_BLOCKS))) {
    if (!set) report_race(now, owner, who_of(access), "reads", cell.read_place);
    const std::string me = who(block, now.actor), at = place_name(false, now.offset);
    const char* const others = access == SEVERAL_BLOCKS ? "threads of several blocks" : "threads of another block";
    fail({text("race: %s overwrites %s, which %s read in the same launch", me.c_str(), at.c_str(), others),
          {{now.place, me + " overwrites"}, {place_at(cell.read_place), "others read"}}, {}});
  }
  if (owner != block.owner) return;
  if (!set) {
    if (!is_before(now.thread, access)) report_race(now, owner, who_of(access), "reads", cell.read_place);
  } else if (block.readers.is_live(access)) {
    for (const uint32_t* one = block.readers.begin(access); one < block.readers.end(access); ++one) {
      if (!is_before(now.thread, *one)) report_race(now, owner, who_of(*one), "reads", cell.read_place);
    }
  }
}

// The word for the readers of a cell once `access`, by `thread` or an engine of it, has read it.
template <bool SHARED>
inline uint64_t with_reader(Thread& thread, uint64_t read, uint32_t access, uint32_t bytes) {
  Block& block = *thread.block;
  const uint64_t alone = word_of(block.owner, bytes, access);
  if (block_of(read) != block.owner) {
    const bool other_block = !SHARED && block_of(read) >= launch_owner;
    return other_block ? word_of(block.owner, BOTH_BYTES, SEVERAL_BLOCKS) | MARK : alone;
  }
  const uint32_t before = read & 0x7fffffff;
  const auto settled = [&](uint32_t one) { return who_of(one) == who_of(access) || is_before(thread, one); };
  if ((read & MARK) == 0) {
    if (who_of(before) == who_of(access)) return word_of(block.owner, bytes | bytes_of(read), access);
    if (is_before(thread, before) || bytes_of(read) != bytes) return alone;
    return word_of(block.owner, bytes, block.readers.with(before, true, access, settled)) | MARK;
  }
  if (!SHARED && before == SEVERAL_BLOCKS) return read;
  if (!block.readers.is_live(before) || bytes_of(read) != bytes) return alone;
  return word_of(block.owner, bytes, block.readers.with(before, false, access, settled)) | MARK;
}

// --- a run of bytes -------------------------------------------------------------------------------------------------

// Calls `one(cell, bytes of it, offset)` for every cell of the run, or once for neighbours that are alike.
template <class One, class Same>
inline void for_cells(Cell* cells, uint64_t offset, uint64_t length, One one, Same same) {
  Cell* cell = cells + offset / 2;
  if (((offset | length) & 1) != 0) {
    for (uint64_t at = offset; at < offset + length; ++at) one(cells[at / 2], 1u << (at & 1), at);
    return;
  }
  const uint64_t end = offset + length;
  while (offset < end) {
    const Cell first = *cell;
    one(*cell, BOTH_BYTES, offset);
    const Cell done = *cell;
    for (++cell, offset += 2; offset < end && cell->write == first.write && cell->read == first.read; ++cell, offset += 2) {
      same(*cell, done);
    }
  }
}

[[noreturn]] inline void report_unwritten(const Attempt& now) {
  fail_at(now.place, text("%s reads shared + %llu, which nobody has written", who(*now.thread.block, now.actor).c_str(),
                          (unsigned long long)now.offset));
}

template <bool SHARED>
inline void note_read(Thread& thread, uint64_t offset, uint64_t length, const void* place) {
  const uint32_t access = access_of(thread.index, thread.clock), code = offset_of(place);
  const auto one = [&](Cell& cell, uint32_t bytes, uint64_t at) {
    const Attempt now = {thread, thread.index, SHARED, at, place, "reads"};
    if (SHARED && block_of(cell.write) != thread.block->owner) report_unwritten(now);
    after_write<SHARED>(now, cell, bytes);
    cell.read = with_reader<SHARED>(thread, cell.read, access, bytes);
    cell.read_place = code;
  };
  const auto same = [](Cell& cell, const Cell& done) {
    cell.read = done.read;
    cell.read_place = done.read_place;
  };
  for_cells(SHARED ? thread.block->cells.data() : device.cells, offset, length, one, same);
}

template <bool SHARED>
inline void note_write(Thread& thread, uint64_t offset, uint64_t length, const void* place) {
  const uint32_t owner = thread.block->owner, access = access_of(thread.index, thread.clock), code = offset_of(place);
  const auto one = [&](Cell& cell, uint32_t bytes, uint64_t at) {
    const Attempt now = {thread, thread.index, SHARED, at, place, "writes"};
    after_write<SHARED>(now, cell, bytes);
    after_reads<SHARED>(now, cell, bytes);
    const bool mine = block_of(cell.write) == owner && who_of(cell.write) == thread.index;
    cell.write = word_of(owner, bytes | (mine ? bytes_of(cell.write) : 0), access);
    if ((bytes_of(cell.read) & ~bytes) == 0) cell.read = 0;
    cell.write_place = code;
  };
  const auto same = [](Cell& cell, const Cell& done) { cell = done; };
  for_cells(SHARED ? thread.block->cells.data() : device.cells, offset, length, one, same);
}

// --- bounds ---------------------------------------------------------------------------------------------------------

inline void require_shared(const Thread& thread, int64_t offset, uint64_t length, const char* doing, const void* place) {
  if (offset >= 0 && static_cast<uint64_t>(offset) + length <= launch->shared_bytes) return;
  fail_at(place, text("thread %u %s %llu bytes at shared + %lld, outside of the block's %u bytes of shared memory", thread.index, doing,
                      (unsigned long long)length, (long long)offset, launch->shared_bytes));
}

inline bool is_inside(uintptr_t address, uint64_t length) {
  static const Buffer* last = nullptr;
  static const Launch* of = nullptr;
  if (of == launch && address >= last->address && address + length <= last->address + last->bytes) return true;
  for (const Buffer& buffer : launch->buffers) {
    if (address < buffer.address || address + length > buffer.address + buffer.bytes) continue;
    of = launch, last = &buffer;
    return true;
  }
  return false;
}

[[noreturn]] inline void report_outside(const Thread& thread, uintptr_t address, uint64_t length, const char* doing, const void* place) {
  const Buffer* const buffer = nearest_buffer(address);
  const std::string nearest = buffer == nullptr ? "this launch has none"
                                                : text("%s + %lld of %lld bytes", buffer->name.c_str(),
                                                       (long long)(address - buffer->address), (long long)buffer->bytes);
  fail_at(place, text("thread %u %s %llu bytes outside of every buffer: %s", thread.index, doing, (unsigned long long)length,
                      nearest.c_str()));
}

// Bytes of global memory that an instruction reads.
inline void read_global(Thread& thread, const void* pointer, uint64_t length, const char* doing, const void* place) {
  if (length == 0) return;
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  if (!is_inside(address, length)) report_outside(thread, address, length, doing, place);
  note_read<false>(thread, address - device.base, length, place);
}

}  // namespace sim
