// Instructions of a whole warp: a lane that reaches one waits for the others, and the last to come carries it out for all.
#pragma once

#include <cmath>

#include "hooks.hpp"

namespace sim {

enum Instruction { SYNC_WARP, SHUFFLE, BALLOT, LDMATRIX, MMA, WGMMA, SETMAXNREG };

inline const char* instruction_name(int instruction) {
  static const char* const names[] = {"sync_warp", "a shuffle", "a ballot", "ldmatrix", "mma", "wgmma", "setmaxnreg"};
  return names[instruction];
}

// Those that all lanes must reach together, in one line; the rest only need the same instruction of all lanes that live.
inline bool is_aligned(int instruction) { return instruction >= LDMATRIX; }

using Perform = void (*)(Warp& warp);
inline void perform(Warp& warp);

inline void complete(Warp& warp) {
  perform(warp);
  const uint32_t arrived = warp.arrived;
  warp.arrived = 0;
  for (uint32_t rest = arrived; rest != 0; rest &= rest - 1) {
    Thread& thread = warp.block->threads[warp.index * WARP + static_cast<uint32_t>(__builtin_ctz(rest))];
    if (thread.waiting == Waiting::warp) wake(thread);
  }
}

// Brings `operand`, and comes back when all lanes have come and the instruction is done.
inline void with_warp(Instruction instruction, int line, void* operand, const void* place) {
  Thread& self = *current;
  Warp& warp = *self.warp;
  if (warp.arrived != 0 && (warp.instruction != instruction || (is_aligned(instruction) && warp.line != line))) {
    const std::string first = text("%u lanes are here", count_bits(warp.arrived));
    fail({text("lanes of one warp are at different instructions: %s and %s", instruction_name(warp.instruction), instruction_name(instruction)),
          {{place, text("thread %u is here", self.index)}, {warp.place, first}}, {}});
  }
  if (is_aligned(instruction) && warp.live != warp.full) {
    fail_at(place, text("%s needs a whole warp, of which %u lanes have returned", instruction_name(instruction), count_bits(warp.full & ~warp.live)));
  }
  if (warp.arrived == 0) {
    warp.instruction = instruction;
    warp.line = line;
    warp.place = place;
  }
  warp.operands[self.lane] = operand;
  warp.arrived |= 1u << self.lane;
  if (warp.arrived == warp.live) complete(warp);
  else wait_for(Waiting::warp, static_cast<uint32_t>(instruction), 0, place);
}

// A lane that returns may be what the others have waited for.
inline void leave_warp(Thread& thread) {
  Warp& warp = *thread.warp;
  warp.live &= ~(1u << thread.lane);
  if (warp.arrived == 0) return;
  if (is_aligned(warp.instruction)) {
    fail({text("thread %u returns while lanes of its warp wait for %s of all of them", thread.index, instruction_name(warp.instruction)),
          {{warp.place, text("%u lanes wait", count_bits(warp.arrived))}}, {}});
  }
  if (warp.arrived == warp.live) complete(warp);
}

inline Thread& lane_thread(Warp& warp, uint32_t lane) { return warp.block->threads[warp.index * WARP + lane]; }

// --- shuffles and votes ---------------------------------------------------------------------------------------------

struct Shuffled {
  uint64_t value, result;
  uint32_t lane;
  const void* place;
};

inline void shuffle(Warp& warp) {
  for (uint32_t rest = warp.arrived; rest != 0; rest &= rest - 1) {
    Shuffled& mine = *static_cast<Shuffled*>(warp.operands[__builtin_ctz(rest)]);
    if ((warp.arrived >> mine.lane & 1) == 0) {
      fail_at(mine.place, text("a shuffle takes the value of lane %u of warp %u, which has returned or does not exist", mine.lane, warp.index));
    }
    mine.result = static_cast<const Shuffled*>(warp.operands[mine.lane])->value;
  }
}

struct Voted {
  bool vote;
  uint32_t result;
};

inline void vote(Warp& warp) {
  uint32_t all = 0;
  for (uint32_t rest = warp.arrived; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    all |= static_cast<uint32_t>(static_cast<const Voted*>(warp.operands[lane])->vote) << lane;
  }
  for (uint32_t rest = warp.arrived; rest != 0; rest &= rest - 1) static_cast<Voted*>(warp.operands[__builtin_ctz(rest)])->result = all;
}

// --- matrices -------------------------------------------------------------------------------------------------------

struct Loaded {
  uint32_t* d;
  uint32_t address, matrices;
  bool transposed;
  const void* place;
};

inline void load_matrices(Warp& warp) {
  const Block& block = *warp.block;
  const Loaded& any = *static_cast<const Loaded*>(warp.operands[0]);
  const uint8_t* rows[WARP];
  for (uint32_t row = 0; row < 8 * any.matrices; ++row) {
    Thread& thread = lane_thread(warp, row);
    const int64_t offset = int64_t(static_cast<const Loaded*>(warp.operands[row])->address) - SHARED_WINDOW;
    if (offset % 16 != 0) fail_at(any.place, text("ldmatrix reads a row at shared + %lld, no multiple of 16", (long long)offset));
    require_shared(thread, offset, 16, "reads", any.place);
    note_read<true>(thread, static_cast<uint64_t>(offset), 16, any.place);
    rows[row] = block.shared + offset;
  }
  for (uint32_t lane = 0; lane < WARP; ++lane) {
    Loaded& mine = *static_cast<Loaded*>(warp.operands[lane]);
    for (uint32_t m = 0; m < any.matrices; ++m) {
      uint16_t pair[2];
      for (uint32_t e = 0; e < 2; ++e) {
        const uint32_t row = mine.transposed ? lane % 4 * 2 + e : lane / 4, column = mine.transposed ? lane / 4 : lane % 4 * 2 + e;
        memcpy(&pair[e], rows[8 * m + row] + 2 * column, 2);
      }
      memcpy(&mine.d[m], pair, 4);
    }
    Thread& thread = lane_thread(warp, lane);
    if (thread.tracked_count > 0) touch_registers(thread, reinterpret_cast<uintptr_t>(mine.d), any.matrices * 4, any.place);
  }
}

// 0 bf16, 1 f16; 2 tf32: what the tensor cores look at.
enum ElementType { BF16, F16, TF32 };

inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

inline float narrow_value(uint32_t half, int type) {
  if (type == BF16) return float_of(half << 16);
  const uint32_t sign = (half & 0x8000) << 16, magnitude = (half & 0x7fff) << 13;
  if (magnitude >= 0x0f800000) return float_of(sign | magnitude | 0x7f800000);
  const float finite = float_of(magnitude) * 0x1p112f;
  return sign != 0 ? -finite : finite;
}

inline float tf32_value(uint32_t bits) { return float_of(bits & 0xffffe000); }

struct Multiplied {
  float* d;
  const uint32_t *a, *b;
  int type;
  const void* place;
};

// Products are exact in a float, and are added one by one.
inline void multiply(Warp& warp) {
  const int type = static_cast<const Multiplied*>(warp.operands[0])->type;
  const uint32_t depth = type == TF32 ? 8 : 16;
  float left[16][16], right[16][8];
  for (uint32_t lane = 0; lane < WARP; ++lane) {
    const Multiplied& one = *static_cast<const Multiplied*>(warp.operands[lane]);
    for (uint32_t r = 0; r < 4; ++r) {
      float* const row = left[lane / 4 + r % 2 * 8];
      if (type == TF32) row[lane % 4 + r / 2 * 4] = tf32_value(one.a[r]);
      else for (uint32_t e = 0; e < 2; ++e) row[lane % 4 * 2 + e + r / 2 * 8] = narrow_value(one.a[r] >> 16 * e & 0xffff, type);
    }
    for (uint32_t r = 0; r < 2; ++r) {
      if (type == TF32) right[lane % 4 + r * 4][lane / 4] = tf32_value(one.b[r]);
      else for (uint32_t e = 0; e < 2; ++e) right[lane % 4 * 2 + e + r * 8][lane / 4] = narrow_value(one.b[r] >> 16 * e & 0xffff, type);
    }
  }
  float sums[16][8];
  const auto exchange = [&](bool into) {
    for (uint32_t lane = 0; lane < WARP; ++lane) {
      float* const d = static_cast<const Multiplied*>(warp.operands[lane])->d;
      for (uint32_t i = 0; i < 4; ++i) {
        float& sum = sums[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
        if (into) sum = d[i];
        else d[i] = sum;
      }
    }
  };
  exchange(true);
  for (uint32_t row = 0; row < 16; ++row) {
    for (uint32_t k = 0; k < depth; ++k) {
      for (uint32_t column = 0; column < 8; ++column) sums[row][column] += left[row][k] * right[k][column];
    }
  }
  exchange(false);
}

inline void wgmma(Warp& warp);          // products.hpp
inline void set_registers(Warp& warp);  // products.hpp

inline void perform(Warp& warp) {
  static const Perform performs[] = {order_warp, shuffle, vote, load_matrices, multiply, wgmma, set_registers};
  performs[warp.instruction](warp);
}

}  // namespace sim

extern "C" {

void sim_sync_warp(int line) { sim::with_warp(sim::SYNC_WARP, line, nullptr, __builtin_return_address(0)); }

unsigned long long sim_shuffle(unsigned long long value, unsigned lane, int line) {
  sim::Shuffled given = {value, 0, lane, __builtin_return_address(0)};
  if (lane >= sim::WARP) sim::fail_at(given.place, sim::text("a shuffle takes the value of lane %u, and there are 32", lane));
  sim::with_warp(sim::SHUFFLE, line, &given, given.place);
  return given.result;
}

unsigned sim_ballot(bool predicate, int line) {
  sim::Voted given = {predicate, 0};
  sim::with_warp(sim::BALLOT, line, &given, __builtin_return_address(0));
  return given.result;
}

void sim_ldmatrix(unsigned* d, unsigned address, unsigned matrices, bool transposed, int line) {
  sim::Loaded given = {d, address, matrices, transposed, __builtin_return_address(0)};
  sim::with_warp(sim::LDMATRIX, line, &given, given.place);
}

void sim_mma(float* d, const unsigned* a, const unsigned* b, int type, int line) {
  sim::Multiplied given = {d, a, b, type, __builtin_return_address(0)};
  sim::with_warp(sim::MMA, line, &given, given.place);
}

}  // extern "C"
