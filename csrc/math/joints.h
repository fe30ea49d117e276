// Joints seen under a view, and how far a prediction is from them.
#pragma once
#include "math/elementary.h"
#include "math/hd.h"
#include "math/number.h"

namespace cvhpe {

// How a batch of joints is looked at. Null: no palm shift (palm), no view (angle and with it scale, shift, flip).
struct JointsView {
  const float *angle, *scale, *shift;  // [B], [B], [B, 2]
  const bool* flip;                    // [B]
  const float* palm;                   // [B]
  int root, toward;
  bool relative;
};

enum LossKind : int { kSquared, kL1, kHuber };

// A reconstruction loss: prediction against target, the target seen under a view.
struct JointsLoss {
  JointsView view;
  Any pred, target, grad;  // [B, J, K]; grad of the prediction, in its type, may be null
  const float* weight;     // [B, J] or null
  int64_t joints;
  int kind;
  bool skip_nan;
  double delta;
};

}  // namespace cvhpe

CVHPE_MATH_BEGIN

// One sample's view, ready to be applied: the root joint is `moved`, then seen = matrix * (p - origin) + shift in
// x and y; z is only moved.
template <class W, int K>
struct Seen {
  W matrix[4], shift[2], moved[K], origin[K];
  int root;    // the joint that is replaced by `moved`; -1 for none
  bool turns;  // there is a view; without one an infinite x must not make y NaN

  // `joints(j, c)` gives coordinate c of joint j of the sample.
  template <class Joints>
  static CVHPE_HD Seen make(const JointsView& view, int64_t sample, const Joints& joints) {
    Seen s;
    s.root = view.palm != nullptr ? view.root : -1;
    for (int c = 0; c < K; ++c) {
      const bool needed = view.palm != nullptr || view.relative;
      const W from = needed ? joints(view.root, c) : W(0);
      s.moved[c] = from;
      if (view.palm != nullptr)
        s.moved[c] = from + static_cast<W>(view.palm[sample]) * (joints(view.toward, c) - from);
      s.origin[c] = view.relative ? s.moved[c] : W(0);
    }
    s.matrix[0] = s.matrix[3] = W(1);
    s.matrix[1] = s.matrix[2] = s.shift[0] = s.shift[1] = W(0);
    s.turns = view.angle != nullptr;
    if (!s.turns) return s;
    W sine, cosine;
    sincos_(static_cast<W>(view.angle[sample]), sine, cosine);
    if (K == 2) {
      const W scale = static_cast<W>(view.scale[sample]);
      sine *= scale;
      cosine *= scale;
      s.shift[0] = static_cast<W>(view.shift[2 * sample]);
      s.shift[1] = static_cast<W>(view.shift[2 * sample + 1]);
    }
    const bool flip = view.flip[sample];
    s.matrix[0] = flip ? -cosine : cosine;
    s.matrix[1] = -sine;
    s.matrix[2] = flip ? -sine : sine;
    s.matrix[3] = cosine;
    return s;
  }

  CVHPE_HD void apply(W* p) const {
    const W x = p[0] - origin[0], y = p[1] - origin[1];
    p[0] = turns ? (matrix[0] * x + matrix[1] * y) + shift[0] : x;
    p[1] = turns ? (matrix[2] * x + matrix[3] * y) + shift[1] : y;
    if (K == 3) p[K - 1] -= origin[K - 1];
  }

  // The transposed linear part, for gradients.
  CVHPE_HD void apply_transposed(W* g) const {
    if (!turns) return;
    const W x = g[0], y = g[1];
    g[0] = matrix[0] * x + matrix[2] * y;
    g[1] = matrix[1] * x + matrix[3] * y;
  }
};

// Loss of a difference, and its derivative. A NaN difference has slope NaN, but 0 for l1, as in torch.
template <class W>
CVHPE_HD void difference_loss(W d, int kind, W delta, W& value, W& slope) {
  const W size = d < W(0) ? -d : d;
  const W sign = d > W(0) ? W(1) : d < W(0) ? W(-1) : W(0);
  const bool far = size > delta;
  const W huber = far ? delta * (size - W(0.5) * delta) : W(0.5) * d * d;
  const W huber_slope = far ? delta * sign : d;
  value = kind == kSquared ? d * d : kind == kL1 ? size : huber;
  slope = kind == kSquared ? W(2) * d : kind == kL1 ? sign : huber_slope;
}

template <class W>
CVHPE_HD bool is_finite(W x) {
  return x - x == W(0);
}

CVHPE_MATH_END
