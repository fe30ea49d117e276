#include "ops/elbo.h"

#include <torch/csrc/stable/library.h>

#include "cpu/joints_loss.simd.h"

namespace {

using namespace cvhpe;

// Samples that count.
int64_t count(const bool* mask, int64_t rows) {
  if (mask == nullptr) return rows;
  int64_t n = 0;
  for (int64_t b = 0; b < rows; ++b) n += mask[b];
  return n;
}

template <class W>
double masked_sum(Any losses, const bool* mask, int64_t rows) {
  double sum = 0;
  for (int64_t b = 0; b < rows; ++b)
    if (mask == nullptr || mask[b]) sum += static_cast<double>(math::load<W>(losses, b));
  return sum;
}

// share: what one sample of the term weighs in the total.
void joints_losses(const ElboTerm& term, int64_t rows, double share, bool in_double) {
  const auto body = CVHPE_PICK(joints_loss_table).rows[term.width - 2][in_double];
  const auto part = [&](int64_t begin, int64_t end) {
    body(term.joints, begin, end, term.mask, share, term.rec.data);
  };
  constexpr int64_t grain = 256;
  if (rows <= grain) return part(0, rows);
  torch::stable::parallel_for(0, rows, grain, part);
}

template <class W>
void run(const Elbo& task) {
  W* values = static_cast<W*>(task.values);
  double total = 0;
  for (int i = 0; i < task.kls; ++i)
    for (int64_t b = 0; task.kl_grad[i].data != nullptr && b < task.rows; ++b) math::store(task.kl_grad[i], b, W(0));
  for (int i = 0; i < task.terms; ++i) {
    const ElboTerm& term = task.term[i];
    const int64_t counted = count(term.mask, task.rows);
    const double one = math::reciprocal(static_cast<double>(counted > 0 ? counted : 1)), share = term.weight * one;
    if (term.is_joints) joints_losses(term, task.rows, share, std::is_same_v<W, double>);
    const double rec = masked_sum<W>(term.rec, term.mask, task.rows) * one;
    const double kl = masked_sum<W>(task.kl[term.kl], term.mask, task.rows) * one;
    values[i] = static_cast<W>(rec);
    values[task.terms + i] = static_cast<W>(kl);
    total += term.weight * (rec + task.beta * kl);
    const Any kl_grad = task.kl_grad[term.kl];
    for (int64_t b = 0; b < task.rows; ++b) {
      const W mine = term.mask == nullptr || term.mask[b] ? static_cast<W>(share) : W(0);
      if (term.rec_grad.data != nullptr) math::store(term.rec_grad, b, mine);
      if (kl_grad.data != nullptr)
        math::store(kl_grad, b, math::load<W>(kl_grad, b) + static_cast<W>(task.beta) * mine);
    }
  }
  *static_cast<W*>(task.total) = static_cast<W>(total);
}

std::tuple<Tensor, Tensor, std::vector<Tensor>> elbo(const std::vector<Tensor>& tensors, std::vector<int64_t> plan,
                                                     std::vector<double> numbers, bool gradient) {
  ElboHost host = elbo_host(tensors, plan, numbers, gradient);
  if (host.type == ScalarType::Double) {
    run<double>(host.task);
  } else {
    run<float>(host.task);
  }
  return {host.total, host.values, host.grads};
}

std::vector<Tensor> elbo_backward(const Tensor& grad_total, const std::vector<Tensor>& grads) {
  check(grad_total.numel() == 1, "elbo_backward: grad_total: shape ", shape_of(grad_total), ", expected a scalar");
  const double g = math::load<double>(any_of(grad_total, "elbo_backward: grad_total"), 0);
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
      const auto factor = static_cast<Wide<T>>(g);
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
