#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(cvhpe, m) {
  // cvhpe/ops/elbo.py writes `plan` and `numbers`, csrc/ops/elbo.h reads them.
  // values: mean rec of each pair, then mean kl. grads: of total, for the kls and then for what each pair's rec or
  // pred is; empty unless `gradient`.
  m.def(
      "elbo(Tensor[] tensors, int[] plan, float[] numbers, bool gradient) -> "
      "(Tensor total, Tensor values, Tensor[] grads)");
  m.def("elbo_backward(Tensor grad_total, Tensor[] grads) -> Tensor[]");
}
