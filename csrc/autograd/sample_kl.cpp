// sample_kl's node in the graph, in C++. _SampleKl of cvhpe/ops/sample_kl.py does the same where this is not loaded; for
// a small batch it takes four times as long as the arithmetic.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/library.h>

#include <mutex>
#include <optional>
#include <string>
#include <tuple>

namespace {

using at::Tensor;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;
using MaybeTensor = std::optional<Tensor>;
using Pair = std::tuple<Tensor, Tensor>;

template <class Signature>
auto op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

Pair forward(const Tensor& mu, const Tensor& logvar, const Tensor& seed, int64_t n, int64_t stream) {
  static const auto below = op<Pair(const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t)>("cvhpe::sample_kl");
  const at::AutoDispatchBelowADInplaceOrView guard;
  return below.call(mu, logvar, seed, n, stream);
}

Pair backward(const MaybeTensor& grad_z, const MaybeTensor& grad_kl, const Tensor& mu, const Tensor& logvar,
              const Tensor& seed, int64_t n, int64_t stream) {
  static const auto below = op<Pair(const MaybeTensor&, const MaybeTensor&, const Tensor&, const Tensor&, const Tensor&,
                                    int64_t, int64_t)>("cvhpe::sample_kl_backward");
  const at::AutoDispatchBelowADInplaceOrView guard;
  return below.call(grad_z, grad_kl, mu, logvar, seed, n, stream);
}

struct SampleKlBackward : torch::autograd::Node {
  SavedVariable mu, logvar, seed;
  int64_t n = -1, stream = 0;

  std::string name() const override { return "SampleKlBackward"; }

  variable_list apply(variable_list&& grads) override {
    const std::lock_guard<std::mutex> lock(mutex_);  // against release_variables() in another thread
    const auto maybe = [](const Tensor& t) { return t.defined() ? MaybeTensor(t) : MaybeTensor(); };
    auto [of_mu, of_logvar] =
        backward(maybe(grads[0]), maybe(grads[1]), mu.unpack(), logvar.unpack(), seed.unpack(), n, stream);
    if (!at::GradMode::is_enabled()) return {std::move(of_mu), std::move(of_logvar)};
    // Somebody wants to differentiate again: not constants, but an error when that is done.
    auto never = c10::make_intrusive<torch::autograd::DelayedError>(
        "sample_kl: its gradient cannot be differentiated again; the twins' can (CVHPE_OPS=twin)", 2);
    return (*never)({of_mu.detach().requires_grad_(), of_logvar.detach().requires_grad_()});
  }

  void compiled_args(torch::dynamo::autograd::CompiledNodeArgs&) const override {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "sample_kl: compiled autograd needs the Python nodes: CVHPE_NODES=python");
  }

  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (SavedVariable* saved : {&mu, &logvar, &seed}) saved->reset_data();
  }
};

Pair sample_kl(const Tensor& mu, const Tensor& logvar, const Tensor& seed, int64_t n, int64_t stream) {
  for (const Tensor* t : {&mu, &logvar})
    TORCH_CHECK_NOT_IMPLEMENTED(!t->_fw_grad(0).defined(), "sample_kl: has no forward-mode derivative");
  if (!torch::autograd::compute_requires_grad(mu, logvar)) return forward(mu, logvar, seed, n, stream);
  auto node = c10::make_intrusive<SampleKlBackward>();
  node->set_next_edges(torch::autograd::collect_next_edges(mu, logvar));
  node->mu = SavedVariable(mu, /*is_output=*/false);
  node->logvar = SavedVariable(logvar, false);
  node->seed = SavedVariable(seed, false);
  node->n = n;
  node->stream = stream;
  Pair out = forward(mu, logvar, seed, n, stream);
  torch::autograd::set_history(std::get<0>(out), node);
  torch::autograd::set_history(std::get<1>(out), node);
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(cvhpe, AutogradCPU, m) { m.impl("sample_kl", &sample_kl); }
TORCH_LIBRARY_IMPL(cvhpe, AutogradCUDA, m) { m.impl("sample_kl", &sample_kl); }
