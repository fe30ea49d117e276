#include "cpu/warp_joints.simd.h"

namespace cvhpe {
namespace CVHPE_LEVEL {
namespace {

template <class T, int K>
void forward(const WarpJointsLoop& loop, int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    const T* in = static_cast<const T*>(loop.in.data) + b * loop.joints * K;
    T* out = static_cast<T*>(loop.out.data) + b * loop.joints * K;
    const auto transform =
        math::JointTransform<K>::make(loop.view, b, [&](int64_t j, int c) { return math::widen(in[j * K + c]); });
    for (int64_t j = 0; j < loop.joints; ++j) {
      float p[K];
      for (int c = 0; c < K; ++c) p[c] = math::widen(in[j * K + c]);
      transform.apply(p);
      for (int c = 0; c < K; ++c) out[j * K + c] = math::narrow<T>(p[c]);
    }
    if (transform.root >= 0) {  // outside the loop, which stays free of branches
      float p[K];
      for (int c = 0; c < K; ++c) p[c] = transform.shifted_root[c];
      transform.apply(p);
      for (int c = 0; c < K; ++c) out[transform.root * K + c] = math::narrow<T>(p[c]);
    }
  }
}

template <class T, int K>
void backward(const WarpJointsLoop& loop, int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    const T* in = static_cast<const T*>(loop.in.data) + b * loop.joints * K;
    T* out = static_cast<T*>(loop.out.data) + b * loop.joints * K;
    const auto transform = math::JointTransform<K>::make(loop.view, b, [](int64_t, int) { return 0.f; });
    float sum[K] = {}, of_root[K] = {};
    for (int64_t j = 0; j < loop.joints; ++j) {
      float g[K];
      for (int c = 0; c < K; ++c) g[c] = math::widen(in[j * K + c]);
      transform.apply_transposed(g);
      for (int c = 0; c < K; ++c) {
        sum[c] += g[c];
        if (j == loop.view.root) of_root[c] = g[c];
        out[j * K + c] = math::narrow<T>(g[c]);
      }
    }
    if (loop.view.root_shift_weight == nullptr && !loop.view.relative) continue;
    // The gradient of the shifted root is that of the root joint, less the sum over all joints where the root was
    // subtracted. The shifted root mixes the joints `root` and `root_shift_joint`.
    const float share = loop.view.root_shift_weight == nullptr ? 0.f : loop.view.root_shift_weight[b];
    const int64_t root = loop.view.root, root_shift_joint = loop.view.root_shift_joint;
    for (int c = 0; c < K; ++c) {
      const float of_shifted = loop.view.relative ? of_root[c] - sum[c] : of_root[c];
      if (root == root_shift_joint || loop.view.root_shift_weight == nullptr) {
        out[root * K + c] = math::narrow<T>(of_shifted);
        continue;
      }
      float of_joint[K];
      for (int e = 0; e < K; ++e) of_joint[e] = math::widen(in[root_shift_joint * K + e]);
      transform.apply_transposed(of_joint);
      out[root * K + c] = math::narrow<T>((1.f - share) * of_shifted);
      out[root_shift_joint * K + c] = math::narrow<T>(of_joint[c] + share * of_shifted);
    }
  }
}

}  // namespace

extern const WarpJointsTable warp_joints_table = {
    {{forward<float, 2>, forward<BFloat, 2>, forward<Half, 2>},
     {forward<float, 3>, forward<BFloat, 3>, forward<Half, 3>}},
    {{backward<float, 2>, backward<BFloat, 2>, backward<Half, 2>},
     {backward<float, 3>, backward<BFloat, 3>, backward<Half, 3>}},
};

}  // namespace CVHPE_LEVEL
}  // namespace cvhpe
