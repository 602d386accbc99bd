// What this machine can do at most, to judge kernels by: multiply-adds in registers, and a copy that no cache holds.
#pragma once

#include "narrow.hpp"

namespace soracc::peaks {

using Lanes = tile::Vector<float>;

// As many sums as hide the latency of two units, and fit the fewest registers there are.
constexpr int SUMS = 12;

#define SORACC_PEAK_SUMS(each) \
  each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(8) each(9) each(10) each(11)

// Multiply-adds of floats, `times` in every sum; returns how many floating point operations that was.
inline double float_products(int64_t times, float* out) {
  volatile float one = 1.0f, zero = 0.0f; // what the compiler does not know it cannot leave out
  Lanes::Value factor = Lanes::Value{} + one, term = Lanes::Value{} + zero;
#define SORACC_PEAK_BEGIN(i) Lanes::Value sum##i = factor + float(i);
#define SORACC_PEAK_ADD(i) sum##i = sum##i * factor + term;
#define SORACC_PEAK_END(i) term += sum##i;
  SORACC_PEAK_SUMS(SORACC_PEAK_BEGIN)
  for (int64_t i = 0; i < times; ++i) {
    SORACC_PEAK_SUMS(SORACC_PEAK_ADD)
  }
  SORACC_PEAK_SUMS(SORACC_PEAK_END)
#undef SORACC_PEAK_BEGIN
#undef SORACC_PEAK_ADD
#undef SORACC_PEAK_END
  Lanes::store(out, term);
  return 2.0 * SUMS * Lanes::LANES * double(times);
}

// The same for products of bfloat16, by whatever this machine multiplies them with.
inline double narrow_products(int64_t times, float* out) {
#if defined(SORACC_AMX)
  return tile::amx::peak_products(times, out);
#elif defined(SORACC_VDPBF16PS)
  const tile::Words::Value left = tile::Words::Value{} + 0x3f803f80u, right = left;
#define SORACC_PEAK_BEGIN(i) Lanes::Value sum##i = Lanes::Value{} + float(i);
#define SORACC_PEAK_ADD(i) tile::add_products(sum##i, left, right);
#define SORACC_PEAK_END(i) total += sum##i;
  SORACC_PEAK_SUMS(SORACC_PEAK_BEGIN)
  for (int64_t i = 0; i < times; ++i) {
    SORACC_PEAK_SUMS(SORACC_PEAK_ADD)
  }
  Lanes::Value total = {};
  SORACC_PEAK_SUMS(SORACC_PEAK_END)
#undef SORACC_PEAK_BEGIN
#undef SORACC_PEAK_ADD
#undef SORACC_PEAK_END
  Lanes::store(out, total);
  return 4.0 * SUMS * Lanes::LANES * double(times);
#else
  return float_products(times, out);
#endif
}

}  // namespace soracc::peaks
