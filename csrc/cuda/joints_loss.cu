#include "cuda/joints_loss.cuh"

#include "cuda/launch.h"
#include "ops/joints_loss.h"

namespace {

using namespace cvhpe;

template <int K>
void launch(const JointsLoss& loss, int64_t rows, Tensor& out, cudaStream_t stream) {
  joints_loss_kernel<K><<<blocks(rows, kJointsLossSamples), kJointsLossThreads, 0, stream>>>(
      loss, rows, static_cast<float*>(data(out)));
}

std::tuple<Tensor, Tensor> joints_loss(const Tensor& pred, const Tensor& target, const MaybeTensor& weight,
                                       const MaybeTensor& angle, const MaybeTensor& scale, const MaybeTensor& shift,
                                       const MaybeTensor& flip, const MaybeTensor& root_shift_weight, int64_t root,
                                       int64_t root_shift_joint, bool relative, bool skip_nan, bool gradient) {
  check_joints("joints_loss", "pred", pred);
  JointsLossTensors in = joints_loss_tensors(
      pred, target, weight,
      view_tensors("joints_loss", pred, angle, scale, shift, flip, root_shift_weight, root, root_shift_joint, relative),
      skip_nan);
  const OnDevice on(pred);
  Tensor loss = empty({pred.size(0)}, ScalarType::Float, pred), grad = joints_loss_gradient(in, gradient);
  if (pred.size(0) == 0) return {loss, grad};
  const auto run = pred.size(2) == 2 ? launch<2> : launch<3>;
  run(in.loss, pred.size(0), loss, on.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {loss, grad};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cvhpe, CUDA, m) { m.impl("joints_loss", TORCH_BOX(&joints_loss)); }
