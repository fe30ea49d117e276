#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(cvhpe, m) {
  // n < 0: one sample, z [B, D]; otherwise z [n, B, D]. seed: int64 [1] on the device of mu.
  m.def("sample_kl(Tensor mu, Tensor logvar, Tensor seed, int n=-1, int stream=0) -> (Tensor z, Tensor kl)");
  m.def(
      "sample_kl_backward(Tensor? grad_z, Tensor? grad_kl, Tensor mu, Tensor logvar, Tensor seed, int n=-1, "
      "int stream=0) -> (Tensor grad_mu, Tensor grad_logvar)");
  m.def("_sample_kl_cpu() -> int");  // for csrc/autograd: the address of a SampleKlCpu
}
