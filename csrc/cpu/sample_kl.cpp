#include "cpu/sample_kl.simd.h"

#include <torch/csrc/stable/library.h>

#include "ops/sample_kl.h"

namespace {

using namespace cvhpe;

SampleKlLoop loop_of(const SampleKlInputs& in) {
  SampleKlLoop loop{};
  loop.rows = in.rows;
  loop.columns = in.columns;
  loop.key = *static_cast<const uint64_t*>(data(in.seed));
  loop.mu = data(in.mu);
  loop.logvar = data(in.logvar);
  return loop;
}

// A thread gets at least this many elements: fewer take less time than waking it.
void over_rows(const SampleKlLoop& loop, void (*body)(const SampleKlLoop&, int64_t, int64_t)) {
  constexpr int64_t elements = 16384;
  const int64_t grain = loop.columns > 0 ? (elements + loop.columns - 1) / loop.columns : loop.rows;
  if (loop.rows <= grain) return body(loop, 0, loop.rows);
  torch::stable::parallel_for(0, loop.rows, grain, [&](int64_t begin, int64_t end) { body(loop, begin, end); });
}

std::tuple<Tensor, Tensor> sample_kl(const Tensor& mu, const Tensor& logvar, const Tensor& seed) {
  const SampleKlInputs in = sample_kl_inputs(mu, logvar, seed);
  const int type = type_index(mu.scalar_type(), "sample_kl: mu");
  Tensor z = empty({in.rows, in.columns}, mu.scalar_type(), mu), kl = empty({in.rows}, ScalarType::Float, mu);
  SampleKlLoop loop = loop_of(in);
  loop.z = data(z);
  loop.kl = data(kl);
  over_rows(loop, CVHPE_PICK(sample_kl_table).forward[type]);
  return {z, kl};
}

std::tuple<Tensor, Tensor> sample_kl_backward(const MaybeTensor& grad_z, const MaybeTensor& grad_kl, const Tensor& mu,
                                              const Tensor& logvar, const Tensor& seed) {
  const SampleKlInputs in = sample_kl_inputs(mu, logvar, seed);
  sample_kl_check_gradients(in, grad_z, grad_kl);
  const int type = type_index(mu.scalar_type(), "sample_kl: mu");
  const MaybeTensor gz = dense(grad_z), gkl = dense(grad_kl);
  Tensor grad_mu = empty({in.rows, in.columns}, mu.scalar_type(), mu);
  Tensor grad_logvar = empty({in.rows, in.columns}, mu.scalar_type(), mu);
  SampleKlLoop loop = loop_of(in);
  loop.grad_z = gz ? data(*gz) : nullptr;
  loop.grad_kl = gkl ? data(*gkl) : nullptr;
  loop.grad_mu = data(grad_mu);
  loop.grad_logvar = data(grad_logvar);
  over_rows(loop, CVHPE_PICK(sample_kl_table).backward[type]);
  return {grad_mu, grad_logvar};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cvhpe, CPU, m) {
  m.impl("sample_kl", TORCH_BOX(&sample_kl));
  m.impl("sample_kl_backward", TORCH_BOX(&sample_kl_backward));
}
