#include "cuda/joints_loss.cuh"

#include "cuda/launch.h"
#include "ops/joints_loss.h"

namespace {

using namespace cvhpe;

template <class W, int K>
void launch(const JointsLoss& loss, int64_t rows, Tensor& out, cudaStream_t stream) {
  joints_loss_kernel<W, K><<<blocks(rows, kJointsLossSamples), kJointsLossThreads, 0, stream>>>(
      loss, rows, static_cast<W*>(data(out)));
}

std::tuple<Tensor, Tensor> joints_loss(const Tensor& pred, const Tensor& target, const MaybeTensor& weight,
                                       const MaybeTensor& angle, const MaybeTensor& scale, const MaybeTensor& shift,
                                       const MaybeTensor& flip, const MaybeTensor& palm, int64_t root, int64_t toward,
                                       bool relative, int64_t kind, double delta, bool skip_nan, bool gradient) {
  check_joints("joints_loss", "pred", pred);
  JointsLossTensors in = joints_loss_tensors(
      pred, target, weight,
      view_tensors("joints_loss", pred, angle, scale, shift, flip, palm, root, toward, relative), kind, skip_nan,
      delta);
  const OnDevice on(pred);
  Tensor loss = empty({pred.size(0)}, in.type, pred), grad = joints_loss_gradient(in, gradient);
  if (pred.size(0) == 0) return {loss, grad};
  const bool wide = in.type == ScalarType::Double, plane = pred.size(2) == 2;
  const auto run = wide ? (plane ? launch<double, 2> : launch<double, 3>) : (plane ? launch<float, 2> : launch<float, 3>);
  run(in.loss, pred.size(0), loss, on.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {loss, grad};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cvhpe, CUDA, m) { m.impl("joints_loss", TORCH_BOX(&joints_loss)); }
