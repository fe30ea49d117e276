#include "cpu/warp_joints.simd.h"

#include <torch/csrc/stable/library.h>

#include "ops/joints.h"

namespace {

using namespace cvhpe;

Tensor run(bool backward, const Tensor& joints, const MaybeTensor& angle, const MaybeTensor& scale,
           const MaybeTensor& shift, const MaybeTensor& flip, const MaybeTensor& root_shift_weight, int64_t root,
           int64_t root_shift_joint, bool relative) {
  check_joints("warp_joints", backward ? "grad" : "joints", joints);
  const ViewTensors view = view_tensors("warp_joints", joints, angle, scale, shift, flip, root_shift_weight, root,
                                        root_shift_joint, relative);
  const Tensor in = dense(joints);
  Tensor out = empty({joints.size(0), joints.size(1), joints.size(2)}, joints.scalar_type(), joints);
  const WarpJointsLoop loop{view.pointers(), typed_array(in, "warp_joints: joints"),
                            typed_array(out, "warp_joints: joints"), joints.size(1)};
  const auto& table = CVHPE_PICK(warp_joints_table);
  const auto body = (backward ? table.backward : table.forward)[joints.size(2) - 2][loop.in.type];
  const int64_t rows = joints.size(0), grain = 1024;
  if (joints.numel() == 0) return out;
  if (rows <= grain) {
    body(loop, 0, rows);
  } else {
    torch::stable::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) { body(loop, begin, end); });
  }
  return out;
}

Tensor warp_joints(const Tensor& joints, const MaybeTensor& angle, const MaybeTensor& scale, const MaybeTensor& shift,
                   const MaybeTensor& flip, const MaybeTensor& root_shift_weight, int64_t root,
                   int64_t root_shift_joint, bool relative) {
  return run(false, joints, angle, scale, shift, flip, root_shift_weight, root, root_shift_joint, relative);
}

Tensor warp_joints_backward(const Tensor& grad, const MaybeTensor& angle, const MaybeTensor& scale,
                            const MaybeTensor& shift, const MaybeTensor& flip, const MaybeTensor& root_shift_weight,
                            int64_t root, int64_t root_shift_joint, bool relative) {
  return run(true, grad, angle, scale, shift, flip, root_shift_weight, root, root_shift_joint, relative);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cvhpe, CPU, m) {
  m.impl("warp_joints", TORCH_BOX(&warp_joints));
  m.impl("warp_joints_backward", TORCH_BOX(&warp_joints_backward));
}
