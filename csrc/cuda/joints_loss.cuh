#pragma once
#include "cuda/joints.cuh"

namespace cvhpe {

constexpr int kJointsLossThreads = 128;
constexpr int kJointsLossSamples = kJointsLossThreads / kWarp;  // a block

template <int K>
__global__ void __launch_bounds__(kJointsLossThreads, 1)
    joints_loss_kernel(const __grid_constant__ JointsLoss loss, int64_t rows, float* __restrict__ out) {
  const int lane = threadIdx.x % kWarp;
  const int64_t sample = static_cast<int64_t>(blockIdx.x) * kJointsLossSamples + threadIdx.x / kWarp;
  if (sample >= rows) return;  // whole warps
  const float result = joints_sample<K>(loss, sample, lane, 1.f);
  if (lane == 0) out[sample] = result;
}

}  // namespace cvhpe
