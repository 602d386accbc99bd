// squared_error_rows: loss = mean((prediction - target)^2) per clip
//   prediction  [clips, elements] f32
//   target      [clips, elements] f32
//   loss        [clips] f32, written
#include "prelude.cuh"

namespace soracc {
struct Arguments {
  const float* prediction;
  const float* target;
  float* loss;
  float* r0_chunks;
  int64_t clips;
  int64_t elements;
  double s0;
};

// A block sums one chunk of one row.
extern "C" __global__ void __launch_bounds__(256) squared_error_rows_ae959ac5_0(const __grid_constant__ Arguments arguments) {
  const float* const prediction = arguments.prediction;
  const float* const target = arguments.target;
  float* const r0_chunks = arguments.r0_chunks;
  const int64_t elements = arguments.elements;
  const int64_t length = elements, chunks = ceil_div(length, 8192);
  const int64_t row = block_index() / chunks, first = block_index() % chunks * 8192;
  const int64_t last = smaller(first + 8192, length);
  const auto prediction_at = prediction + row * elements;
  const auto target_at = target + row * elements;
  float r0_part = 0;
  for (int64_t at = first + thread_index(); at < last; at += 256) {
    const float prediction_value = prediction_at[at];
    const float target_value = target_at[at];
    const float v2 = prediction_value - target_value;
    r0_part += v2 * v2;
  }
  {
    const auto total = reduce_block<Sum, 256>(r0_part, reinterpret_cast<float*>(shared_memory() + 0));
    if (thread_index() == 0) r0_chunks[block_index()] = total;
  }
}

// A warp adds the chunks of one row, always in the same order.
extern "C" __global__ void __launch_bounds__(32) squared_error_rows_ae959ac5_1(const __grid_constant__ Arguments arguments) {
  float* const loss = arguments.loss;
  float* const r0_chunks = arguments.r0_chunks;
  const int64_t elements = arguments.elements;
  const float s0 = static_cast<float>(arguments.s0);
  const int64_t length = elements, chunks = ceil_div(length, 8192);
  const int64_t row = block_index();
  float r0_part = 0;
  for (int64_t chunk = thread_index(); chunk < chunks; chunk += WARP) {
    r0_part += r0_chunks[row * chunks + chunk];
  }
  const float r0 = reduce_lanes<Sum>(r0_part);
  if (thread_index() == 0) {
    loss[row] = r0 * s0;
  }
}
}  // namespace soracc
