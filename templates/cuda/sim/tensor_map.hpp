// What simulator.ts makes of a tensor map, and the order of bytes in a box of one.
#pragma once

#include <cstdint>

namespace sim {

// Sizes are elements, strides bytes from one to the next along dimensions 1, 2 ..., innermost first.
struct TensorMapBits {
  uint64_t address;
  uint16_t magic;
  uint8_t dimensions, element_bytes;
  uint32_t swizzle;
  uint64_t sizes[5], strides[4], box[5];
};
static_assert(sizeof(TensorMapBits) == 128, "a tensor map has 128 bytes");
constexpr uint16_t TENSOR_MAP = 0x50ac;

// Within a swizzle of `width` bytes, the place of a 16-byte chunk changes with the 128-byte line that it lies in.
inline uint32_t swizzled(uint32_t address, uint32_t width) {
  const uint32_t mask = width == 128 ? 7 : width == 64 ? 3 : width == 32 ? 1 : 0;
  return address ^ (address >> 7 & mask) << 4;
}

}  // namespace sim
