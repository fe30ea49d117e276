// One sample of a joints loss on the CPU: a block of 32 joints at a time, a lane for each. The loops over lanes have
// a fixed length and no branches, so that they become a few vector instructions. The GPU gives a joint to each lane
// of a warp and adds in the same order.
#pragma once
#include "math/joints.h"

namespace cvhpe {
namespace CVHPE_LEVEL {

constexpr int kJointLanes = 32;

template <class W>
inline W sum_joint_lanes(W* a) {
  for (int step = kJointLanes / 2; step > 0; step /= 2)
    for (int j = 0; j < step; ++j) a[j] += a[j + step];
  return a[0];
}

template <class T, class W>
inline void widen_all(const void* from, int64_t count, W* to) {
  const T* in = static_cast<const T*>(from);
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<W>(math::widen(in[i]));
}

// `count` numbers from place `first` on, converted.
template <class W>
inline void read(Any array, int64_t first, int64_t count, W* to) {
  switch (array.type) {
    case kFloat: return widen_all<float>(static_cast<const float*>(array.data) + first, count, to);
    case kDouble: return widen_all<double>(static_cast<const double*>(array.data) + first, count, to);
    case kBFloat: return widen_all<BFloat>(static_cast<const BFloat*>(array.data) + first, count, to);
    default: return widen_all<Half>(static_cast<const Half*>(array.data) + first, count, to);
  }
}

template <class T, class W>
inline void narrow_all(const W* from, int64_t count, void* to) {
  T* out = static_cast<T*>(to);
  for (int64_t i = 0; i < count; ++i) out[i] = math::narrow<T>(static_cast<Wide<T>>(from[i]));
}

template <class W>
inline void write(Any array, int64_t first, int64_t count, const W* from) {
  switch (array.type) {
    case kFloat: return narrow_all<float>(from, count, static_cast<float*>(array.data) + first);
    case kDouble: return narrow_all<double>(from, count, static_cast<double*>(array.data) + first);
    case kBFloat: return narrow_all<BFloat>(from, count, static_cast<BFloat*>(array.data) + first);
    default: return narrow_all<Half>(from, count, static_cast<Half*>(array.data) + first);
  }
}

// Differences and weights of the joints of one block.
template <class W, int K>
struct JointBlock {
  alignas(64) W d[K][kJointLanes];
  alignas(64) W w[kJointLanes];

  void fill(const JointsLoss& loss, const math::Seen<W, K>& seen, int64_t sample, int64_t first) {
    const int n = static_cast<int>(loss.joints - first < kJointLanes ? loss.joints - first : kJointLanes);
    const int64_t place = (sample * loss.joints + first) * K;
    alignas(64) W pred[K * kJointLanes], aim[K * kJointLanes];
    read(loss.pred, place, n * K, pred);
    read(loss.target, place, n * K, aim);
    for (int i = n * K; i < K * kJointLanes; ++i) pred[i] = aim[i] = W(0);
    if (seen.root >= first && seen.root < first + n)
      for (int c = 0; c < K; ++c) aim[(seen.root - first) * K + c] = seen.moved[c];
    const float* weight = loss.weight == nullptr ? nullptr : loss.weight + sample * loss.joints + first;
    for (int j = 0; j < kJointLanes; ++j) w[j] = j < n ? W(1) : W(0);
    if (weight != nullptr)
      for (int j = 0; j < n; ++j) w[j] = static_cast<W>(weight[j]);
    for (int j = 0; j < kJointLanes; ++j) {
      W p[K];
      for (int c = 0; c < K; ++c) p[c] = aim[j * K + c];
      seen.apply(p);
      for (int c = 0; c < K; ++c) d[c][j] = p[c];
    }
    if (loss.skip_nan) {
      for (int j = 0; j < kJointLanes; ++j) {
        bool finite = true;
        for (int c = 0; c < K; ++c) finite = finite & math::is_finite(d[c][j]);
        w[j] = finite ? w[j] : W(0);
      }
    }
    for (int j = 0; j < kJointLanes; ++j)
      for (int c = 0; c < K; ++c) d[c][j] = w[j] != W(0) ? pred[j * K + c] - d[c][j] : W(0);
  }
};

// The loss of one sample; its gradient times `grad_scale` goes to loss.grad, where that is not null.
template <class W, int K, int kKind>
inline W joints_sample(const JointsLoss& loss, int64_t sample, W grad_scale) {
  using Block = JointBlock<W, K>;
  const W delta = static_cast<W>(loss.delta);
  const auto seen = math::Seen<W, K>::make(loss.view, sample, [&](int64_t j, int c) {
    return math::load<W>(loss.target, (sample * loss.joints + j) * K + c);
  });
  Block block;
  alignas(64) W losses[kJointLanes] = {}, weights[kJointLanes] = {};
  for (int64_t first = 0; first < loss.joints; first += kJointLanes) {
    block.fill(loss, seen, sample, first);
    for (int j = 0; j < kJointLanes; ++j) {
      W sum = W(0);
      for (int c = 0; c < K; ++c) {
        W value, slope;
        math::difference_loss(block.d[c][j], kKind, delta, value, slope);
        sum += value;
      }
      losses[j] += block.w[j] * sum;
      weights[j] += block.w[j];
    }
  }
  const W total = W(K) * sum_joint_lanes(weights);
  const W inverse = math::reciprocal(total == W(0) ? W(1) : total);
  const W result = sum_joint_lanes(losses) * inverse;
  if (loss.grad.data == nullptr) return result;
  const W unit = grad_scale * inverse;
  for (int64_t first = 0; first < loss.joints; first += kJointLanes) {
    if (loss.joints > kJointLanes) block.fill(loss, seen, sample, first);
    alignas(64) W grad[K * kJointLanes];
    for (int j = 0; j < kJointLanes; ++j)
      for (int c = 0; c < K; ++c) {
        W value, slope;
        math::difference_loss(block.d[c][j], kKind, delta, value, slope);
        grad[j * K + c] = (block.w[j] * slope) * unit;
      }
    const int64_t n = loss.joints - first < kJointLanes ? loss.joints - first : kJointLanes;
    write(loss.grad, (sample * loss.joints + first) * K, n * K, grad);
  }
  return result;
}

}  // namespace CVHPE_LEVEL
}  // namespace cvhpe
