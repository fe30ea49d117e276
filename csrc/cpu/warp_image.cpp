#include "ops/warp_image.h"

#include <torch/csrc/stable/library.h>

#include "cpu/warp_image.simd.h"

namespace {

using namespace cvhpe;

Tensor warp_image(const Tensor& src, const Tensor& view, double margin, int64_t h, int64_t w, double mean,
                  double scale, bool nearest_hole, double fill, bool channels_last, ScalarType dtype) {
  warp_image_check(src, view, h, w);
  Tensor out = warp_image_empty(src, h, w, channels_last, dtype);
  const Tensor views = dense(view);
  const WarpImageJob job = warp_image_job(src, views, {margin, mean, scale, nearest_hole, fill}, out);
  const auto rows = CVHPE_PICK(warp_image_table).rows[warp_source_type(src)];
  const int64_t count = job.batch * job.h;
  if (count == 0 || job.channels == 0) return out;
  // A thread gets at least this many values: fewer take less time than waking it.
  constexpr int64_t values = 16384;
  const int64_t grain = (values + job.w * job.channels - 1) / (job.w * job.channels);
  torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) { rows(job, begin, end); });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cvhpe, CPU, m) {
  m.impl("warp_image", TORCH_BOX(&warp_image));
}
