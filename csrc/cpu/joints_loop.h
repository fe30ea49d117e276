// One sample of a joints loss on the CPU: blocks of 32 joints, one lane a joint. The loops over lanes have a fixed
// length and no branches, so that they compile to a few vector instructions. The GPU adds the lanes of a warp in the
// same order.
#pragma once
#include "math/joints.h"

namespace cvhpe {
namespace CVHPE_LEVEL {

constexpr int kJointLanes = 32;

inline float sum_joint_lanes(float* a) {
  for (int step = kJointLanes / 2; step > 0; step /= 2)
    for (int j = 0; j < step; ++j) a[j] += a[j + step];
  return a[0];
}

template <class T>
inline void widen_all(const void* from, int64_t count, float* to) {
  const T* in = static_cast<const T*>(from);
  for (int64_t i = 0; i < count; ++i) to[i] = math::widen(in[i]);
}

// Converts the numbers [first, first + count) of an array.
inline void read(TypedArray array, int64_t first, int64_t count, float* to) {
  switch (array.type) {
    case kFloat: return widen_all<float>(static_cast<const float*>(array.data) + first, count, to);
    case kBFloat: return widen_all<BFloat>(static_cast<const BFloat*>(array.data) + first, count, to);
    default: return widen_all<Half>(static_cast<const Half*>(array.data) + first, count, to);
  }
}

template <class T>
inline void narrow_all(const float* from, int64_t count, void* to) {
  T* out = static_cast<T*>(to);
  for (int64_t i = 0; i < count; ++i) out[i] = math::narrow<T>(from[i]);
}

inline void write(TypedArray array, int64_t first, int64_t count, const float* from) {
  switch (array.type) {
    case kFloat: return narrow_all<float>(from, count, static_cast<float*>(array.data) + first);
    case kBFloat: return narrow_all<BFloat>(from, count, static_cast<BFloat*>(array.data) + first);
    default: return narrow_all<Half>(from, count, static_cast<Half*>(array.data) + first);
  }
}

// Differences and weights of the joints of one block.
template <int K>
struct JointBlock {
  alignas(64) float d[K][kJointLanes];
  alignas(64) float w[kJointLanes];

  void fill(const JointsLoss& loss, const math::JointTransform<K>& transform, int64_t sample, int64_t first) {
    const int n = static_cast<int>(loss.joints - first < kJointLanes ? loss.joints - first : kJointLanes);
    const int64_t place = (sample * loss.joints + first) * K;
    alignas(64) float pred[K * kJointLanes], target[K * kJointLanes];
    read(loss.pred, place, n * K, pred);
    read(loss.target, place, n * K, target);
    for (int i = n * K; i < K * kJointLanes; ++i) pred[i] = target[i] = 0.f;
    if (transform.root >= first && transform.root < first + n)
      for (int c = 0; c < K; ++c) target[(transform.root - first) * K + c] = transform.shifted_root[c];
    const float* weight = loss.weight == nullptr ? nullptr : loss.weight + sample * loss.joints + first;
    for (int j = 0; j < kJointLanes; ++j) w[j] = j < n ? 1.f : 0.f;
    if (weight != nullptr)
      for (int j = 0; j < n; ++j) w[j] = weight[j];
    for (int j = 0; j < kJointLanes; ++j) {
      float p[K];
      for (int c = 0; c < K; ++c) p[c] = target[j * K + c];
      transform.apply(p);
      for (int c = 0; c < K; ++c) d[c][j] = p[c];
    }
    if (loss.skip_nan) {
      for (int j = 0; j < kJointLanes; ++j) {
        bool finite = true;
        for (int c = 0; c < K; ++c) finite = finite & math::is_finite(d[c][j]);
        w[j] = finite ? w[j] : 0.f;
      }
    }
    for (int j = 0; j < kJointLanes; ++j)
      for (int c = 0; c < K; ++c) d[c][j] = w[j] != 0.f ? pred[j * K + c] - d[c][j] : 0.f;
  }
};

// The loss of one sample; its gradient times `grad_scale` goes to loss.grad, unless that is null.
template <int K>
inline float joints_sample(const JointsLoss& loss, int64_t sample, float grad_scale) {
  const auto transform = math::JointTransform<K>::make(loss.view, sample, [&](int64_t j, int c) {
    return math::load(loss.target, (sample * loss.joints + j) * K + c);
  });
  JointBlock<K> block;
  alignas(64) float losses[kJointLanes] = {}, weights[kJointLanes] = {};
  for (int64_t first = 0; first < loss.joints; first += kJointLanes) {
    block.fill(loss, transform, sample, first);
    for (int j = 0; j < kJointLanes; ++j) {
      float sum = 0.f;
      for (int c = 0; c < K; ++c) sum += block.d[c][j] * block.d[c][j];
      losses[j] += block.w[j] * sum;
      weights[j] += block.w[j];
    }
  }
  const float total = static_cast<float>(K) * sum_joint_lanes(weights);
  const float inverse = math::reciprocal(total == 0.f ? 1.f : total);
  const float result = sum_joint_lanes(losses) * inverse;
  if (loss.grad.data == nullptr) return result;
  const float unit = grad_scale * inverse;
  for (int64_t first = 0; first < loss.joints; first += kJointLanes) {
    if (loss.joints > kJointLanes) block.fill(loss, transform, sample, first);
    alignas(64) float grad[K * kJointLanes];
    for (int j = 0; j < kJointLanes; ++j)
      for (int c = 0; c < K; ++c) grad[j * K + c] = (block.w[j] * (2.f * block.d[c][j])) * unit;
    const int64_t n = loss.joints - first < kJointLanes ? loss.joints - first : kJointLanes;
    write(loss.grad, (sample * loss.joints + first) * K, n * K, grad);
  }
  return result;
}

}  // namespace CVHPE_LEVEL
}  // namespace cvhpe
