// Vector widths, and the C++ that the shared prelude asks of a target.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SORACC_INLINE static inline __attribute__((always_inline))
#define SORACC_INLINE_MEMBER inline __attribute__((always_inline))
#define SORACC_PRAGMA(text) _Pragma(#text)
#define SORACC_UNROLLED(count) SORACC_PRAGMA(GCC unroll count)

// The widest vector registers of the machine this is compiled for.
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#include "number.hpp"
