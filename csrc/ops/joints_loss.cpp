#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(cvhpe, m) {
  // kind: 0 squared, 1 l1, 2 huber. grad: of the sum of the losses with respect to pred; empty unless `gradient`.
  m.def(
      "joints_loss(Tensor pred, Tensor target, Tensor? weight, Tensor? angle, Tensor? scale, Tensor? shift, "
      "Tensor? flip, Tensor? palm, int root, int toward, bool relative, int kind, float delta, bool skip_nan, "
      "bool gradient) -> (Tensor loss, Tensor grad)");
}
