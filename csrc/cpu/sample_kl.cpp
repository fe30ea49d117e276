#include "cpu/sample_kl.h"

#include <torch/csrc/stable/library.h>

#include "ops/sample_kl.h"

namespace {

using namespace cvhpe;
using MaybeTensor = std::optional<Tensor>;

SampleKlLoop loop_of(const SampleKlInputs& in) {
  SampleKlLoop loop{};
  loop.rows = in.sizes.rows;
  loop.columns = in.sizes.columns;
  loop.samples = in.sizes.samples;
  loop.stream = in.sizes.stream;
  loop.key = *static_cast<const uint64_t*>(data(in.seed));
  loop.mu = data(in.mu);
  loop.logvar = data(in.logvar);
  return loop;
}

// A thread gets at least this many elements: less is done before a thread that sleeps, or shares its core, is awake.
void over_rows(const SampleKlLoop& loop, void (*body)(const SampleKlLoop&, int64_t, int64_t)) {
  constexpr int64_t elements = 16384;
  const int64_t row = loop.columns * (loop.samples > 1 ? loop.samples : 1);
  const int64_t grain = row > 0 ? (elements + row - 1) / row : loop.rows;
  if (loop.rows <= grain) return body(loop, 0, loop.rows);
  torch::stable::parallel_for(0, loop.rows, grain, [&](int64_t begin, int64_t end) { body(loop, begin, end); });
}

void forward(const SampleKlLoop& loop, int type) { over_rows(loop, CVHPE_PICK(sample_kl_table).forward[type]); }
void backward(const SampleKlLoop& loop, int type) { over_rows(loop, CVHPE_PICK(sample_kl_table).backward[type]); }

// Where csrc/autograd finds them.
int64_t sample_kl_cpu() {
  static const SampleKlCpu loops{&forward, &backward};
  return reinterpret_cast<int64_t>(&loops);
}

std::tuple<Tensor, Tensor> sample_kl(const Tensor& mu, const Tensor& logvar, const Tensor& seed, int64_t n,
                                     int64_t stream) {
  const SampleKlInputs in = sample_kl_inputs(mu, logvar, seed, n, stream);
  const ScalarType type = mu.scalar_type();
  const int index = type_index(type, "sample_kl: mu");
  Tensor z = empty(z_shape(in), type, mu), kl = empty({in.sizes.rows}, wide_type(type), mu);
  SampleKlLoop loop = loop_of(in);
  loop.z = data(z);
  loop.kl = data(kl);
  forward(loop, index);
  return {z, kl};
}

std::tuple<Tensor, Tensor> sample_kl_backward(const MaybeTensor& grad_z, const MaybeTensor& grad_kl, const Tensor& mu,
                                              const Tensor& logvar, const Tensor& seed, int64_t n, int64_t stream) {
  const SampleKlInputs in = sample_kl_inputs(mu, logvar, seed, n, stream);
  sample_kl_check_gradients(in, grad_z, grad_kl);
  const ScalarType type = mu.scalar_type();
  const int index = type_index(type, "sample_kl: mu");
  const MaybeTensor gz = grad_z ? MaybeTensor(dense(*grad_z)) : grad_z;
  const MaybeTensor gkl = grad_kl ? MaybeTensor(dense(*grad_kl)) : grad_kl;
  Tensor grad_mu = empty({in.sizes.rows, in.sizes.columns}, type, mu);
  Tensor grad_logvar = empty({in.sizes.rows, in.sizes.columns}, type, mu);
  SampleKlLoop loop = loop_of(in);
  loop.grad_z = gz ? data(*gz) : nullptr;
  loop.grad_kl = gkl ? data(*gkl) : nullptr;
  loop.grad_mu = data(grad_mu);
  loop.grad_logvar = data(grad_logvar);
  backward(loop, index);
  return {grad_mu, grad_logvar};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cvhpe, CPU, m) {
  m.impl("sample_kl", TORCH_BOX(&sample_kl));
  m.impl("sample_kl_backward", TORCH_BOX(&sample_kl_backward));
}

STABLE_TORCH_LIBRARY_IMPL(cvhpe, CompositeExplicitAutograd, m) { m.impl("_sample_kl_cpu", TORCH_BOX(&sample_kl_cpu)); }
