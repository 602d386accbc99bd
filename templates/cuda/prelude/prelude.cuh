// What every generated CUDA kernel includes. A kernel is one translation unit; each of its phases is one __global__
// function, launched with as many blocks as the phase has tasks. What a launch hands over is one struct, `Arguments`:
// tensor maps, then the operands, workspaces, sizes and scalars, eight bytes each.
#pragma once

#include "machine.cuh"

// What templates/prelude asks of a target.
#define SORACC_INLINE DEVICE
#define SORACC_INLINE_MEMBER __device__ __forceinline__
#define SORACC_UNROLLED(count) _Pragma("unroll")
#define SORACC_BF16_BITS(value) pack_bf16(value, 0.0f)
#define SORACC_F16_BITS(value) pack_f16(value, 0.0f)
#define SORACC_F16_VALUE(bits) unpack_f16(bits)

#include "number.hpp"
#include "scalar.hpp"
#include "philox.hpp"
#include "block.cuh"
