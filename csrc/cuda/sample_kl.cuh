// Kernels of sample_kl. Sixteen lanes share a row; lane j adds the KL terms of columns j, j + 16, ... and a tree of
// shuffles adds the lanes: the order of the CPU loops, so that both give the same bits.
#pragma once
#include "math/gauss.h"
#include "math/noise.h"
#include "math/number.h"

namespace cvhpe {

constexpr int kSampleKlLanes = 16;
constexpr int kSampleKlThreads = 128;
constexpr int kSampleKlRows = kSampleKlThreads / kSampleKlLanes;  // rows a block

template <class T>
__global__ void __launch_bounds__(kSampleKlThreads)
    sample_kl_forward_kernel(const T* __restrict__ mu, const T* __restrict__ logvar, const int64_t* __restrict__ seed,
                             int64_t rows, int64_t columns, T* __restrict__ z,
                             float* __restrict__ kl) {
  const int lane = threadIdx.x % kSampleKlLanes;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kSampleKlRows + threadIdx.x / kSampleKlLanes;
  const bool in_range = row < rows;  // no early return: every lane of a warp takes part in the shuffles
  const uint64_t key = static_cast<uint64_t>(*seed);
  float sum = 0.f;
  for (int64_t d = lane; in_range && d < columns; d += kSampleKlLanes) {
    const int64_t i = row * columns + d;
    const float m = math::widen(mu[i]), l = math::widen(logvar[i]), sigma = math::gauss_sigma(l);
    sum += math::gauss_kl_twice(m, l, sigma);
    const float noise = math::normal_at(static_cast<uint64_t>(i), key);
    z[i] = math::narrow<T>(math::gauss_sample(m, sigma, noise));
  }
#pragma unroll
  for (int step = kSampleKlLanes / 2; step > 0; step /= 2)
    sum += __shfl_down_sync(0xffffffffu, sum, step, kSampleKlLanes);
  if (in_range && lane == 0) kl[row] = 0.5f * sum;
}

// grad_z and grad_kl may be null.
template <class T>
__global__ void __launch_bounds__(kSampleKlThreads)
    sample_kl_backward_kernel(const T* __restrict__ grad_z, const float* __restrict__ grad_kl, const T* __restrict__ mu,
                              const T* __restrict__ logvar, const int64_t* __restrict__ seed, int64_t rows,
                              int64_t columns, T* __restrict__ grad_mu, T* __restrict__ grad_logvar) {
  const int lane = threadIdx.x % kSampleKlLanes;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kSampleKlRows + threadIdx.x / kSampleKlLanes;
  if (row >= rows) return;
  const uint64_t key = static_cast<uint64_t>(*seed);
  const float of_kl = grad_kl == nullptr ? 0.f : grad_kl[row];
  for (int64_t d = lane; d < columns; d += kSampleKlLanes) {
    const int64_t i = row * columns + d;
    const float g = grad_z == nullptr ? 0.f : math::widen(grad_z[i]);
    const float noise = grad_z == nullptr ? 0.f : math::normal_at(static_cast<uint64_t>(i), key);
    float of_mu, of_logvar;
    math::gauss_backward(math::widen(mu[i]), math::gauss_sigma(math::widen(logvar[i])), g, noise, of_kl, of_mu,
                         of_logvar);
    grad_mu[i] = math::narrow<T>(of_mu);
    grad_logvar[i] = math::narrow<T>(of_logvar);
  }
}

}  // namespace cvhpe
