#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(cvhpe, m) {
  // grad: of the sum of the losses with respect to pred; empty unless `gradient`.
  m.def(
      "joints_loss(Tensor pred, Tensor target, Tensor? weight, Tensor? angle, Tensor? scale, Tensor? shift, "
      "Tensor? flip, Tensor? root_shift_weight, int root, int root_shift_joint, bool relative, bool skip_nan, "
      "bool gradient) -> (Tensor loss, Tensor grad)");
}
