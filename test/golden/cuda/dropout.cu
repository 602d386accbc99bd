// dropout: y = x / (1 - p) where uniform > p, else 0
//   x  [elements] f32
//   y  [elements] f32, written
#include "prelude.cuh"

namespace soracc {
struct Arguments {
  const float* x;
  float* y;
  int64_t elements;
  double s0;
  double s1;
  double s2;
};

extern "C" __global__ void __launch_bounds__(256) dropout_a69596d5_0(const __grid_constant__ Arguments arguments) {
  const float* const x = arguments.x;
  float* const y = arguments.y;
  const int64_t elements = arguments.elements;
  const uint32_t s0 = static_cast<uint32_t>(arguments.s0);
  const uint32_t s1 = static_cast<uint32_t>(arguments.s1);
  const float s2 = static_cast<float>(arguments.s2);
  const float v2 = 1.0f - s2;
  const int64_t total = elements, first = block_index() * 256 * 4 + thread_index();
  // Everything that is read, then everything that is stored.
  float stored[4];
  #pragma unroll
  for (int item = 0; item < 4; ++item) {
    const int64_t element = first + item * 256;
    [[maybe_unused]] const bool inside = element < total;
    const float x_value = inside ? float(x[element]) : float(0);
    stored[item] = uniform(s0, s1, 5u, element) > s2 ? x_value / v2 : 0.0f;
  }
  #pragma unroll
  for (int item = 0; item < 4; ++item) {
    const int64_t element = first + item * 256;
    if (element >= total) break;
    y[element] = stored[item];
  }
}
}  // namespace soracc
