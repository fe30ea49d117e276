#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(cvhpe, m) {
  // angle, scale, shift, flip: the view, all or none; palm: share of the way from joint `root` to joint `toward`.
  m.def(
      "warp_joints(Tensor joints, Tensor? angle, Tensor? scale, Tensor? shift, Tensor? flip, Tensor? palm, "
      "int root, int toward, bool relative) -> Tensor");
  m.def(
      "warp_joints_backward(Tensor grad, Tensor? angle, Tensor? scale, Tensor? shift, Tensor? flip, Tensor? palm, "
      "int root, int toward, bool relative) -> Tensor");
}
