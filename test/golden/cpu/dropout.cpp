// dropout: y = x / (1 - p) where uniform > p, else 0
//   x  [elements] f32
//   y  [elements] f32, written
#include "prelude.hpp"

SORACC_EXPORT void dropout_fbd72d3d_0(const Launch* launch, int64_t task) {
  const int64_t elements = launch->sizes[0];
  const float* const x = static_cast<const float*>(launch->buffers[0]);
  float* const y = static_cast<float*>(launch->buffers[1]);
  const uint32_t s0 = static_cast<uint32_t>(launch->scalars[0]);
  const uint32_t s1 = static_cast<uint32_t>(launch->scalars[1]);
  const float s2 = static_cast<float>(launch->scalars[2]);
  // Elements in memory order, 16384 to a task.
  const int64_t first = task * 16384;
  const int64_t last = smaller(first + 16384, elements);
  const float v = 1.0f - s2;
  #pragma omp simd
  for (int64_t i_elements = first; i_elements < last; ++i_elements) {
    const float x_value = x[i_elements];
    y[i_elements] = uniform(s0, s1, 5u, i_elements) > s2 ? x_value / v : 0.0f;
  }
}
