#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(cvhpe, m) {
  // mu, logvar: [B, D]; seed: int64 [1] on their device.
  m.def("sample_kl(Tensor mu, Tensor logvar, Tensor seed) -> (Tensor z, Tensor kl)");
  m.def(
      "sample_kl_backward(Tensor? grad_z, Tensor? grad_kl, Tensor mu, Tensor logvar, Tensor seed) -> "
      "(Tensor grad_mu, Tensor grad_logvar)");
}
