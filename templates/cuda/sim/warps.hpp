// Instructions of a whole warp: a lane that reaches one waits for the other 31, and the last to come carries it out.
#pragma once

#include <cmath>
#include "memory.hpp"

namespace sim {

inline int lane_of(const Thread& thread) { return thread.index % WARP; }

// Waits until `count` threads have come here; the last one calls `perform`, which sees what each has brought.
template <class Perform>
void gather(Gathering& here, int slot, int count, const char* what, int line, void* data, Perform perform) {
  if (here.arrived > 0 && (here.line != line || strcmp(here.what, what) != 0)) {
    fail({text("threads that must act together are at different instructions: %s in line %d and %s in line %d", here.what,
               here.line, what, line), {}, {}});
  }
  here.what = what;
  here.line = line;
  here.data[slot] = data;
  if (++here.arrived < count) {
    wait_for(what, line);
    return;
  }
  perform();
  here.arrived = 0;
  Block& block = *current->block;
  const int first = current->index / count * count;
  for (int i = first; i < first + count; ++i) if (block.threads[i].get() != current) wake(block.threads[i].get());
}

template <class Perform>
void with_warp(const char* what, int line, void* data, Perform perform) {
  gather(current->block->warps[current->index / WARP], lane_of(*current), WARP, what, line, data, perform);
}

// Everybody comes after what everybody has done.
inline void order_together(const std::vector<Thread*>& threads) {
  for (Thread* thread : threads) tick(thread);
  Clock all = threads[0]->clock;
  for (Thread* thread : threads) join(all, thread->clock);
  for (Thread* thread : threads) thread->clock = all;
}

inline std::vector<Thread*> group_of(const Thread& thread, int count) {
  std::vector<Thread*> members;
  const int first = thread.index / count * count;
  for (int i = first; i < first + count; ++i) members.push_back(thread.block->threads[i].get());
  return members;
}

inline void barrier(uint32_t number, int expected, bool stays, const std::string& what, int line) {
  if (number > 15) fail({text("there is no barrier %u", number), {}, {}});
  if (expected % WARP != 0) fail({text("barrier %u is for %d threads, no whole number of warps", number, expected), {}, {}});
  Thread* const self = current;
  Barrier& here = self->block->barriers[number];
  if (here.arrived == 0) {
    here.expected = expected;
    here.clock.assign(self->clock.size(), 0);
  } else if (here.expected != expected) {
    fail({text("barrier %u waits for %d threads and for %d, in line %d", number, here.expected, expected, line), {}, {}});
  }
  tick(self);
  join(here.clock, self->clock);
  ++here.arrived;
  if (stays) here.waiting.push_back(self);
  if (here.arrived == here.expected) {
    here.arrived = 0;
    for (Thread* thread : here.waiting) {
      join(thread->clock, here.clock);
      wake(thread);
    }
    const bool mine = stays;
    here.waiting.clear();
    if (mine) return;
  } else if (stays) {
    wait_for(what, line);
  }
}

inline float narrow_value(uint32_t half, int type) {
  if (type == 0) {
    const uint32_t bits = half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
  }
  const uint32_t exponent = half >> 10 & 31, fraction = half & 1023;
  const float magnitude = exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                          : exponent == 0 ? std::ldexp(float(fraction), -24)
                                          : std::ldexp(float(1024 + fraction), int(exponent) - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

inline float tf32_value(uint32_t bits) {
  bits &= 0xffffe000u; // what the tensor cores look at
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

}  // namespace sim

extern "C" {

unsigned sim_thread_index() { return sim::current->index; }
unsigned sim_block_index() { return static_cast<unsigned>(sim::current->block->number); }
unsigned sim_block_threads() { return sim::launch->threads; }
unsigned sim_grid_blocks() { return static_cast<unsigned>(sim::launch->blocks); }
unsigned char* sim_shared_memory() { return sim::current->block->shared; }
unsigned sim_shared_address(const void* pointer) {
  const int64_t offset = static_cast<const uint8_t*>(pointer) - sim::current->block->shared;
  if (offset < 0 || offset > static_cast<int64_t>(sim::launch->shared_bytes)) {
    sim::fail_at("an address that is not in shared memory is used as one", {__builtin_return_address(0)});
  }
  return static_cast<unsigned>(offset);
}

void sim_sync_threads(int line) { sim::barrier(0, sim::launch->threads, true, "sync_threads", line); }
void sim_sync_named(unsigned barrier, unsigned threads, int line) {
  sim::barrier(barrier, threads, true, sim::text("barrier %u of %u threads", barrier, threads), line);
}
void sim_arrive_named(unsigned barrier, unsigned threads, int line) { sim::barrier(barrier, threads, false, "", line); }
void sim_sync_warp(int line) {
  sim::with_warp("sync_warp", line, nullptr, [] { sim::order_together(sim::group_of(*sim::current, sim::WARP)); });
}

unsigned long long sim_shuffle(unsigned long long value, unsigned lane, int line) {
  struct Given { unsigned long long value, result; unsigned lane; } given = {value, 0, lane % sim::WARP};
  auto& here = sim::current->block->warps[sim::current->index / sim::WARP];
  sim::with_warp("a shuffle", line, &given, [&] {
    for (int i = 0; i < sim::WARP; ++i) {
      Given& one = *static_cast<Given*>(here.data[i]);
      one.result = static_cast<Given*>(here.data[one.lane])->value;
    }
  });
  return given.result;
}

unsigned sim_ballot(bool predicate, int line) {
  struct Given { bool predicate; unsigned result; } given = {predicate, 0};
  auto& here = sim::current->block->warps[sim::current->index / sim::WARP];
  sim::with_warp("a ballot", line, &given, [&] {
    unsigned all = 0;
    for (int i = 0; i < sim::WARP; ++i) all |= unsigned(static_cast<Given*>(here.data[i])->predicate) << i;
    for (int i = 0; i < sim::WARP; ++i) static_cast<Given*>(here.data[i])->result = all;
  });
  return given.result;
}

void sim_ldmatrix(unsigned* d, unsigned address, unsigned matrices, bool transposed, int line) {
  struct Given { unsigned* d; unsigned address; void* place; } given = {d, address, __builtin_return_address(0)};
  auto& here = sim::current->block->warps[sim::current->index / sim::WARP];
  sim::with_warp("ldmatrix", line, &given, [&] {
    sim::Block& block = *sim::current->block;
    const auto members = sim::group_of(*sim::current, sim::WARP);
    for (unsigned row = 0; row < 8 * matrices; ++row) {
      const Given& one = *static_cast<Given*>(here.data[row]);
      if (one.address % 16 != 0) sim::fail_at(sim::text("ldmatrix reads a row at shared + %u, no multiple of 16", one.address), {one.place});
      sim::require_shared(block, one.address, 16, "ldmatrix reads", one.place);
      sim::read_shared(one.address, 16, *members[row], one.place);
    }
    for (int lane = 0; lane < sim::WARP; ++lane) {
      const Given& mine = *static_cast<Given*>(here.data[lane]);
      for (unsigned m = 0; m < matrices; ++m) {
        uint16_t pair[2];
        for (int e = 0; e < 2; ++e) {
          const int row = transposed ? lane % 4 * 2 + e : lane / 4, column = transposed ? lane / 4 : lane % 4 * 2 + e;
          memcpy(&pair[e], block.shared + static_cast<Given*>(here.data[8 * m + row])->address + 2 * column, 2);
        }
        memcpy(&mine.d[m], pair, 4);
      }
    }
  });
}

void sim_mma(float* d, const unsigned* a, const unsigned* b, int type, int line) {
  struct Given { float* d; const unsigned *a, *b; } given = {d, a, b};
  auto& here = sim::current->block->warps[sim::current->index / sim::WARP];
  sim::with_warp("mma", line, &given, [&] {
    const int depth = type == 2 ? 8 : 16;
    float left[16][16], right[8][16];
    for (int lane = 0; lane < sim::WARP; ++lane) {
      const Given& one = *static_cast<Given*>(here.data[lane]);
      for (int r = 0; r < 4; ++r) {
        const int row = lane / 4 + r % 2 * 8;
        if (type == 2) left[row][lane % 4 + r / 2 * 4] = sim::tf32_value(one.a[r]);
        else for (int e = 0; e < 2; ++e) left[row][lane % 4 * 2 + e + r / 2 * 8] = sim::narrow_value(one.a[r] >> 16 * e & 0xffff, type);
      }
      for (int r = 0; r < 2; ++r) {
        if (type == 2) right[lane / 4][lane % 4 + r * 4] = sim::tf32_value(one.b[r]);
        else for (int e = 0; e < 2; ++e) right[lane / 4][lane % 4 * 2 + e + r * 8] = sim::narrow_value(one.b[r] >> 16 * e & 0xffff, type);
      }
    }
    for (int lane = 0; lane < sim::WARP; ++lane) {
      const Given& one = *static_cast<Given*>(here.data[lane]);
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        double sum = one.d[i];
        for (int k = 0; k < depth; ++k) sum += double(left[row][k]) * double(right[column][k]);
        one.d[i] = static_cast<float>(sum);
      }
    }
  });
}

}  // extern "C"
