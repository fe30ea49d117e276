// Device side of the joints loss: a warp a sample, a lane a joint, added in the order of the CPU's 32 lanes.
#pragma once
#include "math/joints.h"
#include "math/number.h"

namespace cvhpe {

constexpr int kWarp = 32;

// Kernels here have __launch_bounds__(threads, 1): left to itself, the compiler allots fewer registers than it needs,
// so that more blocks fit, and spills the rest.

// The sum over the lanes of a warp, the same bits in all of them.
template <class W>
__device__ __forceinline__ W warp_sum(W x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

// Difference and weight of one joint; weight 0 for lanes without a joint.
template <class W, int K>
struct JointLane {
  W d[K], w;

  static __device__ __forceinline__ JointLane make(const JointsLoss& loss, const math::Seen<W, K>& seen,
                                                   int64_t sample, int64_t joint) {
    JointLane lane;
    lane.w = W(0);
#pragma unroll
    for (int c = 0; c < K; ++c) lane.d[c] = W(0);
    if (joint >= loss.joints) return lane;
    const int64_t place = sample * loss.joints + joint;
    W p[K];
#pragma unroll
    for (int c = 0; c < K; ++c)
      p[c] = joint == seen.root ? seen.moved[c] : math::load<W>(loss.target, place * K + c);
    seen.apply(p);
    bool finite = true;
#pragma unroll
    for (int c = 0; c < K; ++c) finite = finite && math::is_finite(p[c]);
    lane.w = loss.weight == nullptr ? W(1) : static_cast<W>(loss.weight[place]);
    if (loss.skip_nan && !finite) lane.w = W(0);
    if (lane.w == W(0)) return lane;
#pragma unroll
    for (int c = 0; c < K; ++c) lane.d[c] = math::load<W>(loss.pred, place * K + c) - p[c];
    return lane;
  }
};

// The loss of one sample, in every lane; its gradient times grad_scale goes to loss.grad, where that is not null.
// All 32 lanes of the warp come here together.
template <class W, int K>
__device__ __forceinline__ W joints_sample(const JointsLoss& loss, int64_t sample, int lane, W grad_scale) {
  const W delta = static_cast<W>(loss.delta);
  const auto seen = math::Seen<W, K>::make(loss.view, sample, [&](int64_t j, int c) {
    return math::load<W>(loss.target, (sample * loss.joints + j) * K + c);
  });
  W losses = W(0), weights = W(0);
  for (int64_t j = lane; j < loss.joints; j += kWarp) {
    const auto joint = JointLane<W, K>::make(loss, seen, sample, j);
    W sum = W(0), value, slope;
#pragma unroll
    for (int c = 0; c < K; ++c) {
      math::difference_loss(joint.d[c], loss.kind, delta, value, slope);
      sum += value;
    }
    losses += joint.w * sum;
    weights += joint.w;
  }
  const W total = W(K) * warp_sum(weights);
  const W inverse = math::reciprocal(total == W(0) ? W(1) : total);
  const W result = warp_sum(losses) * inverse;
  if (loss.grad.data == nullptr) return result;
  const W unit = grad_scale * inverse;
  for (int64_t j = lane; j < loss.joints; j += kWarp) {
    const auto joint = JointLane<W, K>::make(loss, seen, sample, j);
    W value, slope;
#pragma unroll
    for (int c = 0; c < K; ++c) {
      math::difference_loss(joint.d[c], loss.kind, delta, value, slope);
      math::store(loss.grad, (sample * loss.joints + j) * K + c, (joint.w * slope) * unit);
    }
  }
  return result;
}

}  // namespace cvhpe
