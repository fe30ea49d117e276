// Host side of sample_kl, shared by CPU and CUDA: checks the arguments and makes them contiguous.
#pragma once
#include <tuple>

#include "torch_util.h"

namespace cvhpe {

struct SampleKlInputs {
  int64_t rows, columns;    // B, D
  Tensor mu, logvar, seed;  // contiguous
};

inline SampleKlInputs sample_kl_inputs(const Tensor& mu, const Tensor& logvar, const Tensor& seed) {
  check(mu.dim() == 2, "sample_kl: mu: shape ", shape_of(mu), ", expected [B, D]");
  check(logvar.dim() == 2 && logvar.size(0) == mu.size(0) && logvar.size(1) == mu.size(1), "sample_kl: logvar: shape ",
        shape_of(logvar), ", expected that of mu, ", shape_of(mu));
  check(logvar.scalar_type() == mu.scalar_type(), "sample_kl: logvar: dtype differs from that of mu");
  check(same_device(logvar, mu), "sample_kl: logvar: on another device than mu");
  check(seed.numel() == 1 && seed.scalar_type() == ScalarType::Long, "sample_kl: seed: shape ", shape_of(seed),
        ", expected an int64 tensor of one element");
  check(same_device(seed, mu), "sample_kl: seed: on another device than mu");
  return {mu.size(0), mu.size(1), dense(mu), dense(logvar), seed};
}

// A gradient is absent where its output was not used.
inline void sample_kl_check_gradients(const SampleKlInputs& in, const MaybeTensor& grad_z,
                                      const MaybeTensor& grad_kl) {
  if (grad_z) {
    check(grad_z->numel() == in.rows * in.columns && grad_z->scalar_type() == in.mu.scalar_type(),
          "sample_kl_backward: grad_z: shape ", shape_of(*grad_z), ", expected shape and dtype of z");
  }
  if (grad_kl) {
    check(grad_kl->numel() == in.rows && grad_kl->scalar_type() == ScalarType::Float,
          "sample_kl_backward: grad_kl: shape ", shape_of(*grad_kl), ", expected shape and dtype of kl");
  }
}

}  // namespace cvhpe
