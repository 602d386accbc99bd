// squared_error_rows: loss = mean((prediction - target)^2) per clip
//   prediction  [clips, elements] f32
//   target      [clips, elements] f32
//   loss        [clips] f32, written
#include "prelude.hpp"

// Rows are long: each is cut into parts of 4096 elements, which meet in order, whatever the number of threads.
SORACC_EXPORT void squared_error_rows_7c63e007_0(const Launch* launch, int64_t task) {
  const int64_t clips = launch->sizes[0];
  const int64_t elements = launch->sizes[1];
  const float* const prediction = static_cast<const float*>(launch->buffers[0]);
  const float* const target = static_cast<const float*>(launch->buffers[1]);
  double* const r0_parts = static_cast<double*>(launch->buffers[3]);
  const int64_t parts = ceil_div(elements, 4096);
  const int64_t block = larger(8, floor_div(32768, elements));
  const int64_t end = smaller((task + 1) * block, clips * parts);
  for (int64_t part = task * block; part < end; ++part) {
    const int64_t row = part / parts;
    const int64_t first = part % parts * 4096;
    const int64_t last = smaller(first + 4096, elements);
    const auto prediction_at = prediction + row * elements;
    const auto target_at = target + row * elements;
    double r0_sum = 0;
    float r0_run = 0;
    #pragma omp simd reduction(+ : r0_run)
    for (int64_t i_elements = first; i_elements < last; ++i_elements) {
      const float prediction_value = prediction_at[i_elements];
      const float target_value = target_at[i_elements];
      const float v = prediction_value - target_value;
      r0_run += v * v;
    }
    r0_sum += r0_run;
    r0_parts[part] = r0_sum;
  }
}

SORACC_EXPORT void squared_error_rows_7c63e007_1(const Launch* launch, int64_t task) {
  const int64_t clips = launch->sizes[0];
  const int64_t elements = launch->sizes[1];
  float* const loss = static_cast<float*>(launch->buffers[2]);
  const float s0 = static_cast<float>(launch->scalars[0]);
  double* const r0_parts = static_cast<double*>(launch->buffers[3]);
  const int64_t parts = ceil_div(elements, 4096);
  const int64_t first = task * 256;
  const int64_t last = smaller(first + 256, clips);
  for (int64_t row = first; row < last; ++row) {
    double r0_sum = 0;
    #pragma omp simd reduction(+ : r0_sum)
    for (int64_t part = row * parts; part < (row + 1) * parts; ++part) {
      r0_sum += r0_parts[part];
    }
    const float r0 = float(r0_sum);
    loss[row] = r0 * s0;
  }
}
