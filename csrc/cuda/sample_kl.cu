#include "cuda/sample_kl.cuh"

#include "cuda/launch.h"
#include "ops/sample_kl.h"

namespace {

using namespace cvhpe;

std::tuple<Tensor, Tensor> sample_kl(const Tensor& mu, const Tensor& logvar, const Tensor& seed) {
  const SampleKlInputs in = sample_kl_inputs(mu, logvar, seed);
  const OnDevice on(mu);
  const ScalarType type = mu.scalar_type();
  Tensor z = empty({in.rows, in.columns}, type, mu), kl = empty({in.rows}, ScalarType::Float, mu);
  dispatch(type, "sample_kl: mu", [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (in.rows == 0) return;
    sample_kl_forward_kernel<T><<<blocks(in.rows, kSampleKlRows), kSampleKlThreads, 0, on.stream>>>(
        static_cast<const T*>(data(in.mu)), static_cast<const T*>(data(in.logvar)),
        static_cast<const int64_t*>(data(in.seed)), in.rows, in.columns,
        static_cast<T*>(data(z)), static_cast<float*>(data(kl)));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {z, kl};
}

std::tuple<Tensor, Tensor> sample_kl_backward(const MaybeTensor& grad_z, const MaybeTensor& grad_kl, const Tensor& mu,
                                              const Tensor& logvar, const Tensor& seed) {
  const SampleKlInputs in = sample_kl_inputs(mu, logvar, seed);
  sample_kl_check_gradients(in, grad_z, grad_kl);
  const OnDevice on(mu);
  const ScalarType type = mu.scalar_type();
  const MaybeTensor gz = dense(grad_z), gkl = dense(grad_kl);
  Tensor grad_mu = empty({in.rows, in.columns}, type, mu);
  Tensor grad_logvar = empty({in.rows, in.columns}, type, mu);
  dispatch(type, "sample_kl: mu", [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (in.rows == 0) return;
    sample_kl_backward_kernel<T><<<blocks(in.rows, kSampleKlRows), kSampleKlThreads, 0, on.stream>>>(
        gz ? static_cast<const T*>(data(*gz)) : nullptr, gkl ? static_cast<const float*>(data(*gkl)) : nullptr,
        static_cast<const T*>(data(in.mu)), static_cast<const T*>(data(in.logvar)),
        static_cast<const int64_t*>(data(in.seed)), in.rows, in.columns,
        static_cast<T*>(data(grad_mu)), static_cast<T*>(data(grad_logvar)));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_mu, grad_logvar};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cvhpe, CUDA, m) {
  m.impl("sample_kl", TORCH_BOX(&sample_kl));
  m.impl("sample_kl_backward", TORCH_BOX(&sample_kl_backward));
}
