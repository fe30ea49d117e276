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
  using W = Wide<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kWarpJointsThreads + threadIdx.x;
  if (i >= rows * joints) return;
  const int64_t sample = i / joints, joint = i % joints;
  const T* row = in + sample * joints * K;
  const auto seen = math::Seen<W, K>::make(view, sample, [&](int64_t j, int c) { return math::widen(row[j * K + c]); });
  W p[K];
#pragma unroll
  for (int c = 0; c < K; ++c) p[c] = joint == seen.root ? seen.moved[c] : math::widen(row[joint * K + c]);
  seen.apply(p);
#pragma unroll
  for (int c = 0; c < K; ++c) out[i * K + c] = math::narrow<T>(p[c]);
}

// A warp a sample: the root's gradient needs the sum over the joints.
template <class T, int K>
__global__ void __launch_bounds__(kWarpJointsThreads)
    warp_joints_backward_kernel(const __grid_constant__ JointsView view, const T* __restrict__ grad,
                                T* __restrict__ out, int64_t rows, int64_t joints) {
  using W = Wide<T>;
  const int lane = threadIdx.x % kWarp;
  const int64_t sample = static_cast<int64_t>(blockIdx.x) * kWarpJointsSamples + threadIdx.x / kWarp;
  if (sample >= rows) return;  // whole warps
  const T* row = grad + sample * joints * K;
  T* to = out + sample * joints * K;
  const auto seen = math::Seen<W, K>::make(view, sample, [](int64_t, int) { return W(0); });
  const bool moves = view.palm != nullptr || view.relative;
  W sum[K], moved[K];
#pragma unroll
  for (int c = 0; c < K; ++c) sum[c] = W(0);
  for (int64_t j = lane; view.relative && j < joints; j += kWarp) {
    W g[K];
#pragma unroll
    for (int c = 0; c < K; ++c) g[c] = math::widen(row[j * K + c]);
    seen.apply_transposed(g);
#pragma unroll
    for (int c = 0; c < K; ++c) sum[c] += g[c];
  }
  // What the moved root gets: its own gradient, less everything where it was subtracted.
#pragma unroll
  for (int c = 0; c < K; ++c) moved[c] = moves ? math::widen(row[view.root * K + c]) : W(0);
  if (moves) seen.apply_transposed(moved);
#pragma unroll
  for (int c = 0; c < K; ++c) moved[c] -= warp_sum(sum[c]);
  const W share = view.palm == nullptr || view.root == view.toward ? W(0) : static_cast<W>(view.palm[sample]);
  for (int64_t j = lane; j < joints; j += kWarp) {
    W g[K];
#pragma unroll
    for (int c = 0; c < K; ++c) g[c] = math::widen(row[j * K + c]);
    seen.apply_transposed(g);
#pragma unroll
    for (int c = 0; c < K; ++c) {
      if (moves && j == view.root) {
        g[c] = (W(1) - share) * moved[c];
      } else if (view.palm != nullptr && j == view.toward) {
        g[c] += share * moved[c];
      }
      to[j * K + c] = math::narrow<T>(g[c]);
    }
  }
}

}  // namespace cvhpe
