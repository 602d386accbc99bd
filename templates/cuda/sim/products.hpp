// Products of whole warpgroups: they read shared memory until they are awaited, and their sums arrive in registers then.
#pragma once

#include "copies.hpp"

namespace sim {

constexpr int WARPGROUP = 4 * WARP;
constexpr int PRODUCT_ROWS = 64, PRODUCT_DEPTH = 16;

struct Wgmma {
  int warpgroup = 0;
  // The place of the sums in every thread, and what they were before; NaN stands there until the product is awaited.
  float* d[WARPGROUP] = {};
  std::vector<float> sums[WARPGROUP];
  bool chained = false; // begins with the sums of a product that is not awaited itself
  std::vector<float> left, right;
  std::vector<uint32_t> reads; // cells
  int columns = 0;
  bool committed = false;
};

// One side as a descriptor tells it: element (line, step), where lines are rows of a or columns of b.
struct Described {
  uint32_t start, leading, stride, width;
  bool across;

  Described(uint64_t bits, bool transposed) : across(transposed) {
    start = static_cast<uint32_t>(bits & 0x3fff) << 4;
    leading = static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4;
    stride = static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4;
    const uint32_t mode = static_cast<uint32_t>(bits >> 62);
    width = mode == 1 ? 128 : mode == 2 ? 64 : mode == 3 ? 32 : 0;
    if ((bits >> 49 & 7) != 0) fail({"a wgmma descriptor has a base offset, which the simulator does not know", {}, {}});
  }

  uint32_t address(uint32_t line, uint32_t step) const {
    if (!across) {
      if (width == 0) return start + line / 8 * stride + step / 8 * leading + line % 8 * 16 + step % 8 * 2;
      return swizzled(start + line / 8 * stride + line % 8 * width + step * 2, width);
    }
    if (width == 0) return start + line / 8 * leading + step / 8 * stride + step % 8 * 16 + line % 8 * 2;
    const uint32_t lines = width / 2;
    return swizzled(start + line / lines * leading + step / 8 * stride + step % 8 * width + line % lines * 2, width);
  }
};

inline std::vector<float> read_side(uint64_t bits, bool transposed, int lines, int type, const char* side, Wgmma& product, void* place) {
  Thread& thread = *current;
  Block& block = *thread.block;
  const Described here(bits, transposed);
  std::vector<float> values(static_cast<size_t>(lines) * PRODUCT_DEPTH);
  for (int line = 0; line < lines; ++line) {
    for (int step = 0; step < PRODUCT_DEPTH; ++step) {
      const uint32_t at = here.address(line, step);
      require_shared(block, at, 2, side, place);
      check_read(block, at, 2, thread, place);
      Cell& cell = cell_at(block, at);
      if (cell.generic) {
        // Written through the generic proxy: its writer must have fenced since, and this must come after the fence.
        const Thread& writer = *block.threads[cell.writer.thread];
        bool fenced = false;
        for (const uint32_t fence : writer.fences) fenced = fenced || (fence >= cell.writer.time && (fence < thread.clock[writer.index] || &writer == &thread));
        if (!fenced) fail_at(text("wgmma reads shared + %u, which %s has written with no fence_proxy_async since", at, who(writer.index).c_str()), {cell.writer.place, place});
      }
      ++cell.multiplying;
      product.reads.push_back(at);
      uint16_t half;
      memcpy(&half, block.shared + at, 2);
      values[line * PRODUCT_DEPTH + step] = narrow_value(half, type);
    }
  }
  return values;
}

// The sums of product `which` arrive, unless a later one goes on with them.
inline void land_product(Block& block, size_t which) {
  Wgmma product = std::move(block.products[which]);
  block.products.erase(block.products.begin() + static_cast<long>(which));
  for (const uint32_t at : product.reads) {
    Cell& cell = cell_at(block, at);
    --cell.multiplying;
    for (int warp = 0; warp < 4; ++warp) {
      record_read(block, at, CELL_BYTES, *block.threads[product.warpgroup * WARPGROUP + warp * WARP], nullptr);
    }
  }
  Wgmma* later = nullptr;
  for (Wgmma& other : block.products) {
    if (other.warpgroup == product.warpgroup && other.d[0] == product.d[0] && later == nullptr) later = &other;
  }
  for (int t = 0; t < WARPGROUP; ++t) {
    for (int i = 0; i < product.columns / 2; ++i) {
      const int row = t / WARP * 16 + i / 2 % 2 * 8 + t % WARP / 4, column = i / 4 * 8 + t % 4 * 2 + i % 2;
      double sum = product.sums[t][i];
      for (int k = 0; k < PRODUCT_DEPTH; ++k) sum += double(product.left[row * PRODUCT_DEPTH + k]) * double(product.right[column * PRODUCT_DEPTH + k]);
      product.sums[t][i] = static_cast<float>(sum);
    }
    if (later != nullptr && later->chained) later->sums[t] = product.sums[t];
    if (later == nullptr) memcpy(product.d[t], product.sums[t].data(), product.sums[t].size() * 4);
  }
}

template <class Perform>
void with_warpgroup(const char* what, int line, void* data, Perform perform) {
  gather(current->block->warpgroups[current->index / WARPGROUP], current->index % WARPGROUP, WARPGROUP, what, line, data, perform);
}

}  // namespace sim

extern "C" {

void sim_wgmma_fence() {}

void sim_wgmma(float* d, const unsigned* registers, unsigned long long a, unsigned long long b, unsigned columns, int type,
               bool transposed_a, bool transposed_b, bool accumulate, int line) {
  struct Given { float* d; const unsigned* registers; uint64_t a, b; bool accumulate; } given = {d, registers, a, b, accumulate};
  void* const place = __builtin_return_address(0);
  auto& here = sim::current->block->warpgroups[sim::current->index / sim::WARPGROUP];
  sim::with_warpgroup("wgmma", line, &given, [&] {
    sim::Block& block = *sim::current->block;
    sim::Wgmma product;
    product.warpgroup = sim::current->index / sim::WARPGROUP;
    product.columns = static_cast<int>(columns);
    for (const sim::Wgmma& other : block.products) product.chained = product.chained || (other.warpgroup == product.warpgroup && other.d[0] == static_cast<Given*>(here.data[0])->d);
    if (!accumulate) product.chained = false;
    product.right = sim::read_side(b, transposed_b, static_cast<int>(columns), type, "wgmma reads", product, place);
    if (registers == nullptr) {
      product.left = sim::read_side(a, transposed_a, sim::PRODUCT_ROWS, type, "wgmma reads", product, place);
    } else {
      product.left.resize(sim::PRODUCT_ROWS * sim::PRODUCT_DEPTH);
    }
    for (int t = 0; t < sim::WARPGROUP; ++t) {
      const Given& one = *static_cast<Given*>(here.data[t]);
      if (one.b != b || one.accumulate != accumulate || (registers == nullptr && one.a != a)) {
        sim::fail_at("threads of a warpgroup give one wgmma different descriptors", {place});
      }
      product.d[t] = one.d;
      product.sums[t].assign(columns / 2, 0.0f);
      if (accumulate && !product.chained) memcpy(product.sums[t].data(), one.d, columns / 2 * 4);
      memset(one.d, 0xff, columns / 2 * 4);
      for (int r = 0; registers != nullptr && r < 4; ++r) {
        const int row = t / sim::WARP * 16 + t % sim::WARP / 4 + r % 2 * 8;
        for (int e = 0; e < 2; ++e) product.left[row * sim::PRODUCT_DEPTH + t % 4 * 2 + e + r / 2 * 8] = sim::narrow_value(one.registers[r] >> 16 * e & 0xffff, type);
      }
    }
    block.products.push_back(std::move(product));
  });
}

void sim_wgmma_commit() {
  sim::with_warpgroup("wgmma_commit", 0, nullptr, [] {
    sim::Wgmma end; // what separates one group from the next
    end.warpgroup = sim::current->index / sim::WARPGROUP;
    end.committed = true;
    sim::current->block->products.push_back(end);
  });
}

void sim_wgmma_wait(unsigned groups) {
  sim::with_warpgroup("wgmma_wait", static_cast<int>(groups), nullptr, [&] {
    sim::Block& block = *sim::current->block;
    const int warpgroup = sim::current->index / sim::WARPGROUP;
    for (;;) {
      unsigned ends = 0;
      for (const sim::Wgmma& one : block.products) ends += one.warpgroup == warpgroup && one.committed;
      if (ends <= groups) break;
      for (size_t i = 0; i < block.products.size(); ++i) {
        if (block.products[i].warpgroup != warpgroup) continue;
        const bool last = block.products[i].committed;
        if (last) block.products.erase(block.products.begin() + static_cast<long>(i));
        else sim::land_product(block, i);
        if (last) break;
        --i;
      }
    }
  });
}

void sim_set_registers(unsigned count, bool, int line) {
  if (count % 8 != 0 || count < 24 || count > 256) sim::fail({sim::text("setmaxnreg of %u registers in line %d: a multiple of 8 from 24 to 256 is possible", count, line), {}, {}});
  sim::Block& block = *sim::current->block;
  sim::with_warpgroup("setmaxnreg", line, nullptr, [&] {
    block.registers[sim::current->index / sim::WARPGROUP] = static_cast<int>(count);
    int64_t total = 0;
    for (const int each : block.registers) total += static_cast<int64_t>(each) * sim::WARPGROUP;
    if (total > 65536) sim::fail({sim::text("setmaxnreg in line %d brings the block to %lld registers of 65536", line, (long long)total), {}, {}});
  });
}

}  // extern "C"
