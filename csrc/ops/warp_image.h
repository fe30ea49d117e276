// Host side of warp_image, shared by CPU and CUDA: checks the arguments, allocates the output, fills the job.
#pragma once
#include "math/warp_image.h"
#include "torch_util.h"

namespace cvhpe {

struct WarpImageOptions {
  double margin, mean, scale;
  bool nearest_hole;
  double fill;
};

inline int warp_source_type(const Tensor& src) {
  switch (src.scalar_type()) {
    case ScalarType::Byte: return kFromByte;
    case ScalarType::UInt16: return kFromShort;
    case ScalarType::Float: return kFromFloat;
    default: check(false, "warp_image: src: dtype, expected uint8, uint16 or float32");
  }
  return -1;
}

inline int warp_target_type(const Tensor& out) {
  switch (out.scalar_type()) {
    case ScalarType::Float: return kToFloat;
    case ScalarType::BFloat16: return kToBFloat;
    case ScalarType::Half: return kToHalf;
    default: check(false, "warp_image: dtype: expected float32, bfloat16 or float16");
  }
  return -1;
}

inline void warp_image_check(const Tensor& src, const Tensor& view, int64_t h, int64_t w) {
  check(src.dim() == 4, "warp_image: src: shape ", shape_of(src), ", expected [B, C, H, W]");
  check(view.dim() == 2 && view.size(0) == src.size(0) && view.size(1) == 5, "warp_image: view: shape ",
        shape_of(view), ", expected [", src.size(0), ", 5]");
  check(view.scalar_type() == ScalarType::Float, "warp_image: view: dtype, expected float32");
  check(same_device(view, src), "warp_image: view: on another device than src");
  constexpr int64_t most = 1 << 24;  // pixel numbers are exact in float32
  for (const int64_t size : {src.size(2), src.size(3), h, w})
    check(size >= 1 && size <= most, "warp_image: src ", shape_of(src), " to (", h, ", ", w,
          "): sides, expected 1 to ", most);
}

// [B, C, h, w], contiguous or channels-last.
inline Tensor warp_image_empty(const Tensor& src, int64_t h, int64_t w, bool channels_last, ScalarType type) {
  if (!channels_last) return empty({src.size(0), src.size(1), h, w}, type, src);
  const Tensor pixels = empty({src.size(0), h, w, src.size(1)}, type, src);
  return torch::stable::transpose(torch::stable::transpose(pixels, 2, 3), 1, 2);
}

inline WarpImageJob warp_image_job(const Tensor& src, const Tensor& view, const WarpImageOptions& options,
                                   Tensor& out) {
  WarpImageJob job{};
  job.source = data(src);
  job.views = static_cast<const float*>(data(view));
  job.source_image = src.stride(0);
  job.source_channel = src.stride(1);
  job.source_row = src.stride(2);
  job.source_pixel = src.stride(3);
  job.out_image = out.stride(0);
  job.out_channel = out.stride(1);
  job.out_row = out.stride(2);
  job.out_pixel = out.stride(3);
  job.batch = src.size(0);
  job.channels = src.size(1);
  job.height = static_cast<int>(src.size(2));
  job.width = static_cast<int>(src.size(3));
  job.h = static_cast<int>(out.size(2));
  job.w = static_cast<int>(out.size(3));
  job.margin = options.margin;
  job.mean = options.mean;
  job.scale = options.scale;
  job.fill = options.fill;
  job.nearest_hole = options.nearest_hole;
  job.target = warp_target_type(out);
  job.out = data(out);
  return job;
}

}  // namespace cvhpe
