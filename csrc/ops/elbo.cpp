#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(cvhpe, m) {
  // cvhpe/ops/elbo.py writes `plan` and `numbers`, csrc/ops/elbo.h reads them. values: the mean rec of each pair, then
  // the mean kl. grads: of total, for the kls and then for the rec or pred of each pair; empty unless `gradient`.
  m.def(
      "elbo(Tensor[] tensors, int[] plan, float[] numbers, bool gradient) -> "
      "(Tensor total, Tensor values, Tensor[] grads)");
  m.def("elbo_backward(Tensor grad_total, Tensor[] grads) -> Tensor[]");
}
