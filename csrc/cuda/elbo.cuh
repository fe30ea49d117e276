// Kernels of elbo. A small batch takes one block and one launch. A large one takes two launches: the blocks of
// elbo_joints_kernel write the losses of the joints terms, one block of elbo_sums_kernel adds everything up.
// Sums run in double and in a fixed order, so that a batch always gives the same bits.
#pragma once
#include "cuda/joints.cuh"
#include "math/elbo.h"

namespace cvhpe {

constexpr int kElboThreads = 512;  // of the one block
constexpr int kElboJointsThreads = 128;

// The sum over the threads of a block, in all of them. `room` holds a number for each warp.
template <class X>
__device__ __forceinline__ X block_sum(X x, X* room) {
  const int warps = blockDim.x / kWarp;
  x = warp_sum(x);
  __syncthreads();  // the room may still be read from the sum before
  if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = x;
  __syncthreads();
  X sum = room[0];
  for (int w = 1; w < warps; ++w) sum += room[w];
  return sum;
}

// One over the number of samples of a term. Every thread of the block calls this.
__device__ __forceinline__ double inverse_count(const ElboTask& task, const ElboTerm& term, int* room) {
  int count = 0;
  for (int64_t b = threadIdx.x; term.mask != nullptr && b < task.rows; b += blockDim.x) count += term.mask[b] ? 1 : 0;
  int counted = static_cast<int>(task.rows);
  if (term.mask != nullptr) counted = block_sum(count, room);
  return math::reciprocal(static_cast<double>(counted > 0 ? counted : 1));
}

// Loss and gradient of one sample of a joints term, by a warp; a sample that the mask leaves out is not read.
__device__ __forceinline__ void joints_term_sample(const ElboTerm& term, int64_t sample, int lane, double share) {
  const bool counts = term.mask == nullptr || term.mask[sample];
  float result = 0.f;
  if (counts) {
    const float scale = static_cast<float>(share);
    result = term.width == 2 ? joints_sample<2>(term.joints, sample, lane, scale)
                             : joints_sample<3>(term.joints, sample, lane, scale);
  } else if (term.joints.grad.data != nullptr) {
    const int64_t numbers = term.joints.joints * term.width;
    for (int64_t i = lane; i < numbers; i += kWarp) math::store(term.joints.grad, sample * numbers + i, 0.f);
  }
  if (lane == 0) math::store(term.rec, sample, result);
}

// grid: (any number of blocks, terms)
__global__ void __launch_bounds__(kElboJointsThreads, 1) elbo_joints_kernel(const __grid_constant__ ElboTask task) {
  __shared__ int room[kElboJointsThreads / kWarp];
  const ElboTerm& term = task.term[blockIdx.y];
  if (!term.is_joints) return;
  const double share = term.weight * inverse_count(task, term, room);
  const int warps = kElboJointsThreads / kWarp;
  const int64_t step = static_cast<int64_t>(gridDim.x) * warps;
  for (int64_t b = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.x / kWarp; b < task.rows; b += step)
    joints_term_sample(term, b, threadIdx.x % kWarp, share);
}

// One block. `with_joints`: the joints terms are done here too.
__global__ void __launch_bounds__(kElboThreads, 1)
    elbo_sums_kernel(const __grid_constant__ ElboTask task, const bool with_joints) {
  __shared__ int int_room[kElboThreads / kWarp];
  __shared__ double room[kElboThreads / kWarp];
  __shared__ double inverses[kMaxTerms];  // one over the number of samples of each term
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (int i = 0; i < task.terms; ++i) {
    const double inverse = inverse_count(task, task.term[i], int_room);
    if (threadIdx.x == 0) inverses[i] = inverse;
  }
  __syncthreads();
  for (int i = 0; with_joints && i < task.terms; ++i) {
    const ElboTerm& term = task.term[i];
    for (int64_t b = warp; term.is_joints && b < task.rows; b += kElboThreads / kWarp)
      joints_term_sample(term, b, lane, term.weight * inverses[i]);
  }
  __syncthreads();
  double total = 0;
  for (int i = 0; i < task.terms; ++i) {
    const ElboTerm& term = task.term[i];
    double rec = 0, kl = 0;
    for (int64_t b = threadIdx.x; b < task.rows; b += blockDim.x) {
      if (term.mask != nullptr && !term.mask[b]) continue;
      rec += static_cast<double>(math::load(term.rec, b));
      kl += static_cast<double>(math::load(task.kl[term.kl], b));
    }
    rec = block_sum(rec, room) * inverses[i];
    kl = block_sum(kl, room) * inverses[i];
    total += term.weight * (rec + task.beta * kl);
    if (threadIdx.x == 0) {
      static_cast<float*>(task.values)[i] = static_cast<float>(rec);
      static_cast<float*>(task.values)[task.terms + i] = static_cast<float>(kl);
    }
  }
  if (threadIdx.x == 0) *static_cast<float*>(task.total) = static_cast<float>(total);
  for (int64_t b = threadIdx.x; b < task.rows; b += blockDim.x) {
    for (int u = 0; u < task.kls; ++u) {
      float grad = 0.f;
      for (int i = 0; i < task.terms; ++i) {
        const ElboTerm& term = task.term[i];
        const bool counts = term.mask == nullptr || term.mask[b];
        const float share = counts ? static_cast<float>(term.weight * inverses[i]) : 0.f;
        if (term.kl == u) grad += static_cast<float>(task.beta) * share;
        if (u == 0 && term.rec_grad.data != nullptr) math::store(term.rec_grad, b, share);
      }
      if (task.kl_grad[u].data != nullptr) math::store(task.kl_grad[u], b, grad);
    }
  }
}

struct ElboGradients {
  int count;
  TypedArray grad_total;
  TypedArray in[2 * kMaxTerms], out[2 * kMaxTerms];
  int64_t numbers[2 * kMaxTerms];
};

// grid: (any number of blocks, gradients)
__global__ void __launch_bounds__(kElboJointsThreads, 1)
    elbo_backward_kernel(const __grid_constant__ ElboGradients task) {
  const TypedArray in = task.in[blockIdx.y], out = task.out[blockIdx.y];
  const float factor = math::load(task.grad_total, 0);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kElboJointsThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kElboJointsThreads + threadIdx.x; i < task.numbers[blockIdx.y];
       i += step)
    math::store(out, i, math::load(in, i) * factor);
}

}  // namespace cvhpe
