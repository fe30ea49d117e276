#include "cuda/elbo.cuh"

#include "cuda/launch.h"
#include "ops/elbo.h"

namespace {

using namespace cvhpe;

// Up to this many samples of joints terms, one block in one launch computes everything.
constexpr int64_t kOneLaunch = 128;
// Blocks that a joints term is spread over; each counts the mask for itself.
constexpr int64_t kMostBlocks = 528;

void launch(const ElboTask& task, cudaStream_t stream) {
  int64_t samples = 0;
  for (int i = 0; i < task.terms; ++i) samples += task.term[i].is_joints ? task.rows : 0;
  const bool one_launch = samples <= kOneLaunch;
  if (!one_launch) {
    const int64_t wanted = blocks(task.rows, kElboJointsThreads / kWarp);
    const dim3 grid(static_cast<unsigned>(wanted < kMostBlocks ? wanted : kMostBlocks),
                    static_cast<unsigned>(task.terms));
    elbo_joints_kernel<<<grid, kElboJointsThreads, 0, stream>>>(task);
  }
  elbo_sums_kernel<<<1, kElboThreads, 0, stream>>>(task, one_launch);
}

std::tuple<Tensor, Tensor, std::vector<Tensor>> elbo(const std::vector<Tensor>& tensors, std::vector<int64_t> plan,
                                                     std::vector<double> numbers, bool gradient) {
  check(!tensors.empty(), "elbo: terms: none given, expected at least one pair");
  const OnDevice on(tensors[0]);
  ElboHost host = elbo_host(tensors, plan, numbers, gradient);
  launch(host.task, on.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {host.total, host.values, host.grads};
}

std::vector<Tensor> elbo_backward(const Tensor& grad_total, const std::vector<Tensor>& grads) {
  check(grad_total.numel() == 1, "elbo_backward: grad_total: shape ", shape_of(grad_total), ", expected a scalar");
  check(grads.size() <= 2 * kMaxTerms, "elbo_backward: grads: ", grads.size(), " given, expected at most ",
        2 * kMaxTerms);
  const OnDevice on(grad_total);
  ElboGradients task{};
  task.grad_total = typed_array(grad_total, "elbo_backward: grad_total");
  std::vector<Tensor> kept, scaled;
  int64_t most = 0;
  for (const Tensor& grad : grads) {
    kept.push_back(dense(grad));
    std::vector<int64_t> shape(static_cast<size_t>(grad.dim()));
    for (size_t d = 0; d < shape.size(); ++d) shape[d] = grad.size(static_cast<int64_t>(d));
    scaled.push_back(empty(shape, grad.scalar_type(), grad));
    task.in[task.count] = typed_array(kept.back(), "elbo_backward: grads");
    task.out[task.count] = typed_array(scaled.back(), "elbo_backward: grads");
    task.numbers[task.count++] = grad.numel();
    most = grad.numel() > most ? grad.numel() : most;
  }
  if (most == 0) return scaled;
  const int64_t wanted = blocks(most, kElboJointsThreads);
  const dim3 grid(static_cast<unsigned>(wanted < kMostBlocks ? wanted : kMostBlocks),
                  static_cast<unsigned>(task.count));
  elbo_backward_kernel<<<grid, kElboJointsThreads, 0, on.stream>>>(task);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return scaled;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cvhpe, CUDA, m) {
  m.impl("elbo", TORCH_BOX(&elbo));
  m.impl("elbo_backward", TORCH_BOX(&elbo_backward));
}
