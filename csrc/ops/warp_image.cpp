#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(cvhpe, m) {
  // src [B, C, H, W] of any strides; view [B, 5] packed; the outputs are [B, C, h, w], contiguous or channels-last.
  m.def(
      "warp_image(Tensor src, Tensor view, float margin, SymInt h, SymInt w, float mean, float scale, "
      "bool nearest_hole, float fill, bool channels_last, ScalarType dtype) -> Tensor");
}
