#include "cpu/warp_joints.simd.h"

namespace cvhpe {
namespace CVHPE_LEVEL {
namespace {

template <class T, int K>
void forward(const WarpJointsLoop& loop, int64_t begin, int64_t end) {
  using W = Wide<T>;
  for (int64_t b = begin; b < end; ++b) {
    const T* in = static_cast<const T*>(loop.in.data) + b * loop.joints * K;
    T* out = static_cast<T*>(loop.out.data) + b * loop.joints * K;
    const auto seen =
        math::Seen<W, K>::make(loop.view, b, [&](int64_t j, int c) { return math::widen(in[j * K + c]); });
    for (int64_t j = 0; j < loop.joints; ++j) {
      W p[K];
      for (int c = 0; c < K; ++c) p[c] = math::widen(in[j * K + c]);
      seen.apply(p);
      for (int c = 0; c < K; ++c) out[j * K + c] = math::narrow<T>(p[c]);
    }
    if (seen.root >= 0) {  // outside the loop, which stays free of branches
      W p[K];
      for (int c = 0; c < K; ++c) p[c] = seen.moved[c];
      seen.apply(p);
      for (int c = 0; c < K; ++c) out[seen.root * K + c] = math::narrow<T>(p[c]);
    }
  }
}

template <class T, int K>
void backward(const WarpJointsLoop& loop, int64_t begin, int64_t end) {
  using W = Wide<T>;
  for (int64_t b = begin; b < end; ++b) {
    const T* in = static_cast<const T*>(loop.in.data) + b * loop.joints * K;
    T* out = static_cast<T*>(loop.out.data) + b * loop.joints * K;
    const auto seen = math::Seen<W, K>::make(loop.view, b, [](int64_t, int) { return W(0); });
    W sum[K] = {}, of_root[K] = {};
    for (int64_t j = 0; j < loop.joints; ++j) {
      W g[K];
      for (int c = 0; c < K; ++c) g[c] = math::widen(in[j * K + c]);
      seen.apply_transposed(g);
      for (int c = 0; c < K; ++c) {
        sum[c] += g[c];
        if (j == loop.view.root) of_root[c] = g[c];
        out[j * K + c] = math::narrow<T>(g[c]);
      }
    }
    if (loop.view.palm == nullptr && !loop.view.relative) continue;
    // The moved root gets what the root joint got, less everything where it was subtracted; it is itself a mixture
    // of the joints `root` and `toward`.
    const W share = loop.view.palm == nullptr ? W(0) : static_cast<W>(loop.view.palm[b]);
    const int64_t root = loop.view.root, toward = loop.view.toward;
    for (int c = 0; c < K; ++c) {
      const W moved = loop.view.relative ? of_root[c] - sum[c] : of_root[c];
      if (root == toward || loop.view.palm == nullptr) {
        out[root * K + c] = math::narrow<T>(moved);
        continue;
      }
      W of_toward[K];
      for (int e = 0; e < K; ++e) of_toward[e] = math::widen(in[toward * K + e]);
      seen.apply_transposed(of_toward);
      out[root * K + c] = math::narrow<T>((W(1) - share) * moved);
      out[toward * K + c] = math::narrow<T>(of_toward[c] + share * moved);
    }
  }
}

}  // namespace

extern const WarpJointsTable warp_joints_table = {
    {{forward<float, 2>, forward<double, 2>, forward<BFloat, 2>, forward<Half, 2>},
     {forward<float, 3>, forward<double, 3>, forward<BFloat, 3>, forward<Half, 3>}},
    {{backward<float, 2>, backward<double, 2>, backward<BFloat, 2>, backward<Half, 2>},
     {backward<float, 3>, backward<double, 3>, backward<BFloat, 3>, backward<Half, 3>}},
};

}  // namespace CVHPE_LEVEL
}  // namespace cvhpe
