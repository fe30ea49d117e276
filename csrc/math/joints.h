// Joints under a view: the transform of one sample, and the arguments of the joints loss.
#pragma once
#include "math/elementary.h"
#include "math/hd.h"
#include "math/number.h"

namespace cvhpe {

// The views of a batch. Null pointers: no shift of the root (root_shift_weight), no view (angle, scale, shift, flip).
struct JointsView {
  const float *angle, *scale, *shift;  // [B], [B], [B, 2]
  const bool* flip;                    // [B]
  const float* root_shift_weight;      // [B]
  int root, root_shift_joint;
  bool relative;
};

// A mean squared error: the prediction against the target under a view.
struct JointsLoss {
  JointsView view;
  TypedArray pred, target, grad;  // [B, J, K]; grad of the prediction, in its type, may be null
  const float* weight;            // [B, J] or null
  int64_t joints;
  bool skip_nan;
};

}  // namespace cvhpe

CVHPE_MATH_BEGIN

// The transform of one sample: the root joint is replaced by `shifted_root`, then every joint p becomes
// matrix * (p - origin) + shift in x and y; z becomes z - origin.
template <int K>
struct JointTransform {
  float matrix[4], shift[2], shifted_root[K], origin[K];
  int root;       // the joint that is replaced by `shifted_root`; -1 for none
  bool has_view;  // without a view an infinite x must not make y NaN

  // `joints(j, c)` gives coordinate c of joint j of the sample.
  template <class Joints>
  static CVHPE_HD JointTransform make(const JointsView& view, int64_t sample, const Joints& joints) {
    JointTransform s;
    s.root = view.root_shift_weight != nullptr ? view.root : -1;
    for (int c = 0; c < K; ++c) {
      const bool needed = view.root_shift_weight != nullptr || view.relative;
      const float from = needed ? joints(view.root, c) : 0.f;
      s.shifted_root[c] = from;
      if (view.root_shift_weight != nullptr)
        s.shifted_root[c] = from + view.root_shift_weight[sample] * (joints(view.root_shift_joint, c) - from);
      s.origin[c] = view.relative ? s.shifted_root[c] : 0.f;
    }
    s.matrix[0] = s.matrix[3] = 1.f;
    s.matrix[1] = s.matrix[2] = s.shift[0] = s.shift[1] = 0.f;
    s.has_view = view.angle != nullptr;
    if (!s.has_view) return s;
    float sine, cosine;
    sincos_(view.angle[sample], sine, cosine);
    if (K == 2) {
      const float scale = view.scale[sample];
      sine *= scale;
      cosine *= scale;
      s.shift[0] = view.shift[2 * sample];
      s.shift[1] = view.shift[2 * sample + 1];
    }
    const bool flip = view.flip[sample];
    s.matrix[0] = flip ? -cosine : cosine;
    s.matrix[1] = -sine;
    s.matrix[2] = flip ? -sine : sine;
    s.matrix[3] = cosine;
    return s;
  }

  CVHPE_HD void apply(float* p) const {
    const float x = p[0] - origin[0], y = p[1] - origin[1];
    p[0] = has_view ? (matrix[0] * x + matrix[1] * y) + shift[0] : x;
    p[1] = has_view ? (matrix[2] * x + matrix[3] * y) + shift[1] : y;
    if (K == 3) p[K - 1] -= origin[K - 1];
  }

  // The transposed linear part, for gradients.
  CVHPE_HD void apply_transposed(float* g) const {
    if (!has_view) return;
    const float x = g[0], y = g[1];
    g[0] = matrix[0] * x + matrix[2] * y;
    g[1] = matrix[1] * x + matrix[3] * y;
  }
};

CVHPE_HD bool is_finite(float x) {
  return x - x == 0.f;
}

CVHPE_MATH_END
