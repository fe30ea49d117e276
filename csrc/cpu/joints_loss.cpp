#include "ops/joints_loss.h"

#include <torch/csrc/stable/library.h>

#include "cpu/joints_loss.simd.h"

namespace {

using namespace cvhpe;

std::tuple<Tensor, Tensor> joints_loss(const Tensor& pred, const Tensor& target, const MaybeTensor& weight,
                                       const MaybeTensor& angle, const MaybeTensor& scale, const MaybeTensor& shift,
                                       const MaybeTensor& flip, const MaybeTensor& root_shift_weight, int64_t root,
                                       int64_t root_shift_joint, bool relative, bool skip_nan, bool gradient) {
  check_joints("joints_loss", "pred", pred);
  JointsLossTensors in = joints_loss_tensors(
      pred, target, weight,
      view_tensors("joints_loss", pred, angle, scale, shift, flip, root_shift_weight, root, root_shift_joint, relative),
      skip_nan);
  Tensor loss = empty({pred.size(0)}, ScalarType::Float, pred), grad = joints_loss_gradient(in, gradient);
  const auto body = CVHPE_PICK(joints_loss_table).rows[pred.size(2) - 2];
  const int64_t rows = pred.size(0), grain = 256;
  float* out = static_cast<float*>(data(loss));
  if (rows <= grain) {
    body(in.loss, 0, rows, nullptr, 1.0, out);
  } else {
    torch::stable::parallel_for(0, rows, grain,
                                [&](int64_t begin, int64_t end) { body(in.loss, begin, end, nullptr, 1.0, out); });
  }
  return {loss, grad};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cvhpe, CPU, m) { m.impl("joints_loss", TORCH_BOX(&joints_loss)); }
