#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(cvhpe, m) {
  // angle, scale, shift, flip: the view, all or none. The root moves by root_shift_weight towards root_shift_joint.
  m.def(
      "warp_joints(Tensor joints, Tensor? angle, Tensor? scale, Tensor? shift, Tensor? flip, "
      "Tensor? root_shift_weight, int root, int root_shift_joint, bool relative) -> Tensor");
  m.def(
      "warp_joints_backward(Tensor grad, Tensor? angle, Tensor? scale, Tensor? shift, Tensor? flip, "
      "Tensor? root_shift_weight, int root, int root_shift_joint, bool relative) -> Tensor");
}
