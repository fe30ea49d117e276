// What the CPU and the CUDA face of sample_kl share: checks, allocation, the sizes handed to the kernels.
#pragma once
#include <tuple>

#include "torch_util.h"

namespace cvhpe {

struct SampleKlSizes {
  int64_t rows, columns;  // B, D
  int64_t samples;        // n, at least 0
  uint32_t stream;        // which of the noises of one seed
};

struct SampleKlInputs {
  SampleKlSizes sizes;
  Tensor mu, logvar, seed;  // contiguous
  bool many;                // z has an axis of samples
};

inline SampleKlInputs sample_kl_inputs(const Tensor& mu, const Tensor& logvar, const Tensor& seed, int64_t n,
                                       int64_t stream) {
  check(mu.dim() == 2, "sample_kl: mu: shape ", shape_of(mu), ", expected [B, D]");
  check(logvar.dim() == 2 && logvar.size(0) == mu.size(0) && logvar.size(1) == mu.size(1), "sample_kl: logvar: shape ",
        shape_of(logvar), ", expected that of mu, ", shape_of(mu));
  check(logvar.scalar_type() == mu.scalar_type(), "sample_kl: logvar: dtype differs from that of mu");
  check(same_device(logvar, mu), "sample_kl: logvar: on another device than mu");
  check(seed.numel() == 1 && seed.scalar_type() == ScalarType::Long, "sample_kl: seed: shape ", shape_of(seed),
        ", expected an int64 tensor of one element (cvhpe.ops.draw_seed makes one)");
  check(same_device(seed, mu), "sample_kl: seed: on another device than mu");
  const SampleKlSizes sizes{mu.size(0), mu.size(1), n < 0 ? 1 : n, static_cast<uint32_t>(stream)};
  return {sizes, dense(mu), dense(logvar), seed, n >= 0};
}

inline std::vector<int64_t> z_shape(const SampleKlInputs& in) {
  if (in.many) return {in.sizes.samples, in.sizes.rows, in.sizes.columns};
  return {in.sizes.rows, in.sizes.columns};
}

// Gradients may be absent (their output was not used); those that are there must look like the outputs.
inline void sample_kl_check_gradients(const SampleKlInputs& in, const std::optional<Tensor>& grad_z,
                                      const std::optional<Tensor>& grad_kl) {
  if (grad_z) {
    check(grad_z->numel() == in.sizes.samples * in.sizes.rows * in.sizes.columns &&
              grad_z->scalar_type() == in.mu.scalar_type(),
          "sample_kl_backward: grad_z: shape ", shape_of(*grad_z), ", expected shape and dtype of z");
  }
  if (grad_kl) {
    check(grad_kl->numel() == in.sizes.rows && grad_kl->scalar_type() == wide_type(in.mu.scalar_type()),
          "sample_kl_backward: grad_kl: shape ", shape_of(*grad_kl), ", expected shape and dtype of kl");
  }
}

}  // namespace cvhpe
