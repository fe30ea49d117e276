#include "ops/elbo.h"

#include <torch/csrc/stable/library.h>

#include "cpu/joints_loss.simd.h"

namespace {

using namespace cvhpe;

int64_t count_samples(const bool* mask, int64_t rows) {
  if (mask == nullptr) return rows;
  int64_t n = 0;
  for (int64_t b = 0; b < rows; ++b) n += mask[b];
  return n;
}

double masked_sum(TypedArray losses, const bool* mask, int64_t rows) {
  double sum = 0;
  for (int64_t b = 0; b < rows; ++b)
    if (mask == nullptr || mask[b]) sum += static_cast<double>(math::load(losses, b));
  return sum;
}

// share: the weight of one sample of the term in the total.
void joints_losses(const ElboTerm& term, int64_t rows, double share) {
  const auto body = CVHPE_PICK(joints_loss_table).rows[term.width - 2];
  const auto part = [&](int64_t begin, int64_t end) {
    body(term.joints, begin, end, term.mask, share, static_cast<float*>(term.rec.data));
  };
  constexpr int64_t grain = 256;
  if (rows <= grain) return part(0, rows);
  torch::stable::parallel_for(0, rows, grain, part);
}

void run(const ElboTask& task) {
  float* values = static_cast<float*>(task.values);
  double total = 0;
  for (int i = 0; i < task.kls; ++i)
    for (int64_t b = 0; task.kl_grad[i].data != nullptr && b < task.rows; ++b) math::store(task.kl_grad[i], b, 0.f);
  for (int i = 0; i < task.terms; ++i) {
    const ElboTerm& term = task.term[i];
    const int64_t counted = count_samples(term.mask, task.rows);
    const double inverse = math::reciprocal(static_cast<double>(counted > 0 ? counted : 1));
    const double share = term.weight * inverse;
    if (term.is_joints) joints_losses(term, task.rows, share);
    const double rec = masked_sum(term.rec, term.mask, task.rows) * inverse;
    const double kl = masked_sum(task.kl[term.kl], term.mask, task.rows) * inverse;
    values[i] = static_cast<float>(rec);
    values[task.terms + i] = static_cast<float>(kl);
    total += term.weight * (rec + task.beta * kl);
    const TypedArray kl_grad = task.kl_grad[term.kl];
    for (int64_t b = 0; b < task.rows; ++b) {
      const float grad = term.mask == nullptr || term.mask[b] ? static_cast<float>(share) : 0.f;
      if (term.rec_grad.data != nullptr) math::store(term.rec_grad, b, grad);
      if (kl_grad.data != nullptr)
        math::store(kl_grad, b, math::load(kl_grad, b) + static_cast<float>(task.beta) * grad);
    }
  }
  *static_cast<float*>(task.total) = static_cast<float>(total);
}

std::tuple<Tensor, Tensor, std::vector<Tensor>> elbo(const std::vector<Tensor>& tensors, std::vector<int64_t> plan,
                                                     std::vector<double> numbers, bool gradient) {
  ElboHost host = elbo_host(tensors, plan, numbers, gradient);
  run(host.task);
  return {host.total, host.values, host.grads};
}

std::vector<Tensor> elbo_backward(const Tensor& grad_total, const std::vector<Tensor>& grads) {
  check(grad_total.numel() == 1, "elbo_backward: grad_total: shape ", shape_of(grad_total), ", expected a scalar");
  const float factor = math::load(typed_array(grad_total, "elbo_backward: grad_total"), 0);
  std::vector<Tensor> scaled;
  for (const Tensor& grad : grads) {
    const Tensor in = dense(grad);
    std::vector<int64_t> shape(static_cast<size_t>(in.dim()));
    for (size_t d = 0; d < shape.size(); ++d) shape[d] = in.size(static_cast<int64_t>(d));
    Tensor out = empty(shape, in.scalar_type(), in);
    dispatch(in.scalar_type(), "elbo_backward: grads", [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* from = static_cast<const T*>(data(in));
      T* to = static_cast<T*>(data(out));
      for (int64_t i = 0, n = in.numel(); i < n; ++i) to[i] = math::narrow<T>(math::widen(from[i]) * factor);
    });
    scaled.push_back(out);
  }
  return scaled;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cvhpe, CPU, m) {
  m.impl("elbo", TORCH_BOX(&elbo));
  m.impl("elbo_backward", TORCH_BOX(&elbo_backward));
}
