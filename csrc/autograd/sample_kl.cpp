// sample_kl's node in the graph, in C++, and the drawing of its seed. Python does the same where this is not loaded; for
// a small batch that takes four times as long as the arithmetic.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/library.h>

#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>

#include "cpu/sample_kl.h"

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

const cvhpe::SampleKlCpu& cpu() {
  static const auto address = op<int64_t()>("cvhpe::_sample_kl_cpu").call();
  return *reinterpret_cast<const cvhpe::SampleKlCpu*>(address);
}

// Ordinary dense CPU memory, and nobody who wants to see the call below (modes, functionalization, tracing): the
// dispatcher would lead straight to the CPU kernel.
bool plain(const Tensor& t) {
  static const c10::DispatchKeySet keys = [] {
    const c10::InferenceMode off(false);
    return at::detail::empty_cpu({0}, at::kFloat).key_set();
  }();
  return t.key_set() == keys && t.is_contiguous();
}

bool nobody_looks() { return c10::impl::tls_local_dispatch_key_set().included_ == c10::default_included_set; }

// The place of a type in SampleKlTable, -1 where it has none.
int type_index(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return 0;
    case at::kDouble: return 1;
    case at::kBFloat16: return 2;
    case at::kHalf: return 3;
    default: return -1;
  }
}

at::ScalarType wide(const Tensor& mu) { return mu.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

// Whether the loops can be called as they are. What cannot, or is wrong, goes to the operator, which says so.
bool direct(const Tensor& mu, const Tensor& logvar, const Tensor& seed, int64_t n) {
  return n < 0 && nobody_looks() && plain(mu) && plain(logvar) && plain(seed) && mu.dim() == 2 &&
         logvar.sizes() == mu.sizes() && logvar.scalar_type() == mu.scalar_type() &&
         type_index(mu.scalar_type()) >= 0 && seed.numel() == 1 && seed.scalar_type() == at::kLong;
}

cvhpe::SampleKlLoop loop_of(const Tensor& mu, const Tensor& logvar, const Tensor& seed, int64_t stream) {
  cvhpe::SampleKlLoop loop{};
  loop.rows = mu.size(0);
  loop.columns = mu.size(1);
  loop.samples = 1;
  loop.stream = static_cast<uint32_t>(stream);
  loop.key = *static_cast<const uint64_t*>(seed.const_data_ptr());
  loop.mu = mu.const_data_ptr();
  loop.logvar = logvar.const_data_ptr();
  return loop;
}

Tensor fresh(at::IntArrayRef sizes, at::ScalarType type) { return Tensor(at::detail::empty_cpu(sizes, type)); }

Pair forward(const Tensor& mu, const Tensor& logvar, const Tensor& seed, int64_t n, int64_t stream) {
  if (direct(mu, logvar, seed, n)) {
    Tensor z = fresh(mu.sizes(), mu.scalar_type()), kl = fresh({mu.size(0)}, wide(mu));
    cvhpe::SampleKlLoop loop = loop_of(mu, logvar, seed, stream);
    loop.z = z.mutable_data_ptr();
    loop.kl = kl.mutable_data_ptr();
    cpu().forward(loop, type_index(mu.scalar_type()));
    return {std::move(z), std::move(kl)};
  }
  static const auto below = op<Pair(const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t)>("cvhpe::sample_kl");
  const at::AutoDispatchBelowADInplaceOrView guard;
  return below.call(mu, logvar, seed, n, stream);
}

Pair backward(const Tensor& grad_z, const Tensor& grad_kl, const Tensor& mu, const Tensor& logvar, const Tensor& seed,
              int64_t n, int64_t stream) {
  const auto fits = [](const Tensor& grad, at::IntArrayRef sizes, at::ScalarType type) {
    return !grad.defined() || (plain(grad) && grad.sizes() == sizes && grad.scalar_type() == type);
  };
  if (direct(mu, logvar, seed, n) && fits(grad_z, mu.sizes(), mu.scalar_type()) &&
      fits(grad_kl, {mu.size(0)}, wide(mu))) {
    Tensor grad_mu = fresh(mu.sizes(), mu.scalar_type()), grad_logvar = fresh(mu.sizes(), mu.scalar_type());
    cvhpe::SampleKlLoop loop = loop_of(mu, logvar, seed, stream);
    loop.grad_z = grad_z.defined() ? grad_z.const_data_ptr() : nullptr;
    loop.grad_kl = grad_kl.defined() ? grad_kl.const_data_ptr() : nullptr;
    loop.grad_mu = grad_mu.mutable_data_ptr();
    loop.grad_logvar = grad_logvar.mutable_data_ptr();
    cpu().backward(loop, type_index(mu.scalar_type()));
    return {std::move(grad_mu), std::move(grad_logvar)};
  }
  static const auto below = op<Pair(const MaybeTensor&, const MaybeTensor&, const Tensor&, const Tensor&, const Tensor&,
                                    int64_t, int64_t)>("cvhpe::sample_kl_backward");
  const at::AutoDispatchBelowADInplaceOrView guard;
  const auto maybe = [](const Tensor& t) { return t.defined() ? MaybeTensor(t) : MaybeTensor(); };
  return below.call(maybe(grad_z), maybe(grad_kl), mu, logvar, seed, n, stream);
}

struct SampleKlBackward : torch::autograd::Node {
  SavedVariable mu, logvar, seed;
  int64_t n = -1, stream = 0;

  std::string name() const override { return "SampleKlBackward"; }

  variable_list apply(variable_list&& grads) override {
    const std::lock_guard<std::mutex> lock(mutex_);  // against release_variables() in another thread
    auto [of_mu, of_logvar] =
        backward(grads[0], grads[1], mu.unpack(), logvar.unpack(), seed.unpack(), n, stream);
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

// What torch.empty(1, dtype=torch.int64).random_() draws, in one call.
Tensor draw_seed() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();  // shared, not copied
  Tensor seed = fresh({1}, at::kLong);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  const uint64_t bits = at::check_generator<at::CPUGeneratorImpl>(generator)->random64();
  *seed.mutable_data_ptr<int64_t>() = static_cast<int64_t>(bits & std::numeric_limits<int64_t>::max());
  return seed;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(cvhpe, m) { m.def("_draw_seed() -> Tensor", {at::Tag::nondeterministic_seeded}); }
TORCH_LIBRARY_IMPL(cvhpe, CompositeExplicitAutograd, m) { m.impl("_draw_seed", &draw_seed); }
TORCH_LIBRARY_IMPL(cvhpe, AutogradCPU, m) { m.impl("sample_kl", &sample_kl); }
TORCH_LIBRARY_IMPL(cvhpe, AutogradCUDA, m) { m.impl("sample_kl", &sample_kl); }
