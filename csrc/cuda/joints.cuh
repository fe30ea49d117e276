// Device side of the joints loss: a warp a sample, a lane a joint, added in the order of the CPU's 32 lanes.
#pragma once
#include "math/joints.h"
#include "math/number.h"

namespace cvhpe {

constexpr int kWarp = 32;

// Kernels here have __launch_bounds__(threads, 1): the compiler would otherwise use fewer registers, so that more
// blocks fit, and spill.

// The sum over the lanes of a warp, the same bits in all of them.
template <class X>
__device__ __forceinline__ X warp_sum(X x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

// Difference and weight of one joint; weight 0 for lanes without a joint.
template <int K>
struct JointLane {
  float d[K], w;

  static __device__ __forceinline__ JointLane make(const JointsLoss& loss, const math::JointTransform<K>& transform,
                                                   int64_t sample, int64_t joint) {
    JointLane lane;
    lane.w = 0.f;
#pragma unroll
    for (int c = 0; c < K; ++c) lane.d[c] = 0.f;
    if (joint >= loss.joints) return lane;
    const int64_t place = sample * loss.joints + joint;
    float p[K];
#pragma unroll
    for (int c = 0; c < K; ++c)
      p[c] = joint == transform.root ? transform.shifted_root[c] : math::load(loss.target, place * K + c);
    transform.apply(p);
    bool finite = true;
#pragma unroll
    for (int c = 0; c < K; ++c) finite = finite && math::is_finite(p[c]);
    lane.w = loss.weight == nullptr ? 1.f : loss.weight[place];
    if (loss.skip_nan && !finite) lane.w = 0.f;
    if (lane.w == 0.f) return lane;
#pragma unroll
    for (int c = 0; c < K; ++c) lane.d[c] = math::load(loss.pred, place * K + c) - p[c];
    return lane;
  }
};

// The loss of one sample, in every lane; its gradient times grad_scale goes to loss.grad, unless that is null. All 32
// lanes of the warp call this together.
template <int K>
__device__ __forceinline__ float joints_sample(const JointsLoss& loss, int64_t sample, int lane, float grad_scale) {
  const auto transform = math::JointTransform<K>::make(loss.view, sample, [&](int64_t j, int c) {
    return math::load(loss.target, (sample * loss.joints + j) * K + c);
  });
  float losses = 0.f, weights = 0.f;
  for (int64_t j = lane; j < loss.joints; j += kWarp) {
    const auto joint = JointLane<K>::make(loss, transform, sample, j);
    float sum = 0.f;
#pragma unroll
    for (int c = 0; c < K; ++c) sum += joint.d[c] * joint.d[c];
    losses += joint.w * sum;
    weights += joint.w;
  }
  const float total = static_cast<float>(K) * warp_sum(weights);
  const float inverse = math::reciprocal(total == 0.f ? 1.f : total);
  const float result = warp_sum(losses) * inverse;
  if (loss.grad.data == nullptr) return result;
  const float unit = grad_scale * inverse;
  for (int64_t j = lane; j < loss.joints; j += kWarp) {
    const auto joint = JointLane<K>::make(loss, transform, sample, j);
#pragma unroll
    for (int c = 0; c < K; ++c)
      math::store(loss.grad, (sample * loss.joints + j) * K + c, (joint.w * (2.f * joint.d[c])) * unit);
  }
  return result;
}

}  // namespace cvhpe
