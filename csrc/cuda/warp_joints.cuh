#pragma once
#include "cuda/joints.cuh"

namespace cvhpe {

constexpr int kWarpJointsThreads = 128;
constexpr int kWarpJointsSamples = kWarpJointsThreads / kWarp;  // a block

// A thread a joint.
template <class T, int K>
__global__ void __launch_bounds__(kWarpJointsThreads)
    warp_joints_kernel(const __grid_constant__ JointsView view, const T* __restrict__ in, T* __restrict__ out,
                       int64_t rows, int64_t joints) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kWarpJointsThreads + threadIdx.x;
  if (i >= rows * joints) return;
  const int64_t sample = i / joints, joint = i % joints;
  const T* row = in + sample * joints * K;
  const auto transform =
      math::JointTransform<K>::make(view, sample, [&](int64_t j, int c) { return math::widen(row[j * K + c]); });
  float p[K];
#pragma unroll
  for (int c = 0; c < K; ++c)
    p[c] = joint == transform.root ? transform.shifted_root[c] : math::widen(row[joint * K + c]);
  transform.apply(p);
#pragma unroll
  for (int c = 0; c < K; ++c) out[i * K + c] = math::narrow<T>(p[c]);
}

// A warp a sample: the root's gradient needs the sum over the joints.
template <class T, int K>
__global__ void __launch_bounds__(kWarpJointsThreads)
    warp_joints_backward_kernel(const __grid_constant__ JointsView view, const T* __restrict__ grad,
                                T* __restrict__ out, int64_t rows, int64_t joints) {
  const int lane = threadIdx.x % kWarp;
  const int64_t sample = static_cast<int64_t>(blockIdx.x) * kWarpJointsSamples + threadIdx.x / kWarp;
  if (sample >= rows) return;  // whole warps
  const T* row = grad + sample * joints * K;
  T* to = out + sample * joints * K;
  const auto transform = math::JointTransform<K>::make(view, sample, [](int64_t, int) { return 0.f; });
  const bool shifts = view.root_shift_weight != nullptr || view.relative;
  float sum[K], of_shifted[K];
#pragma unroll
  for (int c = 0; c < K; ++c) sum[c] = 0.f;
  for (int64_t j = lane; view.relative && j < joints; j += kWarp) {
    float g[K];
#pragma unroll
    for (int c = 0; c < K; ++c) g[c] = math::widen(row[j * K + c]);
    transform.apply_transposed(g);
#pragma unroll
    for (int c = 0; c < K; ++c) sum[c] += g[c];
  }
  // The gradient of the shifted root: that of the root joint, less the sum over all joints where it was subtracted.
#pragma unroll
  for (int c = 0; c < K; ++c) of_shifted[c] = shifts ? math::widen(row[view.root * K + c]) : 0.f;
  if (shifts) transform.apply_transposed(of_shifted);
#pragma unroll
  for (int c = 0; c < K; ++c) of_shifted[c] -= warp_sum(sum[c]);
  const float share =
      view.root_shift_weight == nullptr || view.root == view.root_shift_joint ? 0.f : view.root_shift_weight[sample];
  for (int64_t j = lane; j < joints; j += kWarp) {
    float g[K];
#pragma unroll
    for (int c = 0; c < K; ++c) g[c] = math::widen(row[j * K + c]);
    transform.apply_transposed(g);
#pragma unroll
    for (int c = 0; c < K; ++c) {
      if (shifts && j == view.root) {
        g[c] = (1.f - share) * of_shifted[c];
      } else if (view.root_shift_weight != nullptr && j == view.root_shift_joint) {
        g[c] += share * of_shifted[c];
      }
      to[j * K + c] = math::narrow<T>(g[c]);
    }
  }
}

}  // namespace cvhpe
