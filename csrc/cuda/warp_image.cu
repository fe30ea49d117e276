#include "cuda/warp_image.cuh"

#include "cuda/launch.h"
#include "ops/warp_image.h"

namespace {

using namespace cvhpe;

template <class T>
void launch(const WarpImageJob& job, cudaStream_t stream) {
  const WarpImageGrid g = warp_image_grid<T>(job);
  const dim3 grid(g.x, g.y, g.z);
  if constexpr (sizeof(T) == 1) {
    if (warp_image_by_three<T>(job)) {
      warp_image_kernel<T, 3><<<grid, kWarpImageThreads, 0, stream>>>(job);
      return;
    }
  }
  warp_image_kernel<T, 1><<<grid, kWarpImageThreads, 0, stream>>>(job);
}

Tensor warp_image(const Tensor& src, const Tensor& view, double margin, int64_t h, int64_t w, double mean,
                  double scale, bool nearest_hole, double fill, bool channels_last, ScalarType dtype) {
  warp_image_check(src, view, h, w);
  Tensor out = warp_image_empty(src, h, w, channels_last, dtype);
  const OnDevice on(src);
  const Tensor views = dense(view);
  const WarpImageJob job = warp_image_job(src, views, {margin, mean, scale, nearest_hole, fill}, out);
  if (job.batch == 0 || job.channels == 0) return out;
  switch (warp_source_type(src)) {
    case kFromByte: launch<uint8_t>(job, on.stream); break;
    case kFromShort: launch<uint16_t>(job, on.stream); break;
    default: launch<float>(job, on.stream);
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cvhpe, CUDA, m) {
  m.impl("warp_image", TORCH_BOX(&warp_image));
}
