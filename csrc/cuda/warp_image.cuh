// The kernel of warp_image. A thread computes four neighbouring output pixels, so that it stores 16 bytes at once and
// the stores of a warp are contiguous; neighbouring threads read neighbouring source pixels, which stay in the L1
// cache.
#pragma once
#include "math/number.h"
#include "math/warp_image.h"

namespace cvhpe {

constexpr int kWarpImageThreads = 128;
constexpr int kWarpImageBlocks = 4;  // a multiprocessor, at least: up to 128 registers, none spilled
constexpr int kWarpImagePixels = 4;

template <class Out>
struct alignas(sizeof(Out) >= 4 ? 16 : 8) FourValues {
  Out v[4];
};

// Four values to neighbouring places, the first `count` of them.
template <class Out>
__device__ __forceinline__ void store_four(Out* to, const float* values, int count) {
  FourValues<Out> four;
#pragma unroll
  for (int k = 0; k < 4; ++k) four.v[k] = math::narrow<Out>(values[k]);
  if (count == 4 && reinterpret_cast<uintptr_t>(to) % alignof(FourValues<Out>) == 0) {
    *reinterpret_cast<FourValues<Out>*>(to) = four;
    return;
  }
#pragma unroll
  for (int k = 0; k < 4; ++k)
    if (k < count) to[k] = four.v[k];
}

// `values[k][p]`: channel k of pixel p, of which `count` are inside the row; `out` is the first one's place.
template <class Out, int K>
__device__ __forceinline__ void store_pixels(const WarpImageJob& job, Out* out, const float (&values)[K][4],
                                             int count) {
  if (job.out_pixel == 1) {
#pragma unroll
    for (int k = 0; k < K; ++k) store_four(out + k * job.out_channel, values[k], count);
    return;
  }
  if (job.out_pixel == K) {  // pixels of K channels: 4 K values in a row
#pragma unroll
    for (int s = 0; s < K; ++s) {
      float part[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) part[k] = values[(4 * s + k) % K][(4 * s + k) / K];
      const int left = count * K - 4 * s;
      store_four(out + 4 * s, part, left < 0 ? 0 : left > 4 ? 4 : left);
    }
    return;
  }
#pragma unroll
  for (int p = 0; p < 4; ++p)
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (p < count)
        out[p * job.out_pixel + k * job.out_channel] = math::narrow<Out>(values[k][p]);
}

// Grid: x over groups of four pixels of an image, y over images, z over groups of K channels. K is 3 where the
// source has pixels of three channels: they share the coordinates and the cache line.
template <class T, int K>
__global__ void __launch_bounds__(kWarpImageThreads, kWarpImageBlocks) warp_image_kernel(WarpImageJob job) {
  __shared__ math::WarpMatrix matrix;
  const int groups_of_row = (job.w + kWarpImagePixels - 1) / kWarpImagePixels;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * kWarpImageThreads + threadIdx.x;
  const int j = static_cast<int>(group / groups_of_row);
  const int first = static_cast<int>(group % groups_of_row) * kWarpImagePixels;
  const int count = job.w - first < kWarpImagePixels ? job.w - first : kWarpImagePixels;
  const float mean = static_cast<float>(job.mean), scale = static_cast<float>(job.scale);
  for (int64_t image = blockIdx.y; image < job.batch; image += gridDim.y) {
    if (threadIdx.x == 0)
      matrix = math::warp_matrix(job.views + image * 5, job.margin, job.h, job.w, job.height, job.width);
    __syncthreads();
    const math::WarpMatrix m = matrix;
    for (int64_t channel = static_cast<int64_t>(blockIdx.z) * K; j < job.h && channel < job.channels;
         channel += static_cast<int64_t>(gridDim.z) * K) {
      const T* plane = static_cast<const T*>(job.source) + image * job.source_image + channel * job.source_channel;
      float values[K][kWarpImagePixels];
#pragma unroll
      for (int p = 0; p < kWarpImagePixels; ++p) {
        const math::WarpPlace place = math::warp_place(m, job, first + p, j);
#pragma unroll
        for (int k = 0; k < K; ++k)
          values[k][p] = (math::warp_sample(job, plane + k * job.source_channel, place) - mean) * scale;
      }
      const int64_t offset =
          image * job.out_image + channel * job.out_channel + j * job.out_row + first * job.out_pixel;
      switch (job.target) {
        case kToFloat: store_pixels<float, K>(job, static_cast<float*>(job.out) + offset, values, count); break;
        case kToBFloat: store_pixels<BFloat, K>(job, static_cast<BFloat*>(job.out) + offset, values, count); break;
        default: store_pixels<Half, K>(job, static_cast<Half*>(job.out) + offset, values, count);
      }
    }
    __syncthreads();  // before the next image's matrix
  }
}

struct WarpImageGrid {
  unsigned x, y, z;
};

// Whether a thread computes three channels. Compiled for bytes alone, the type of RGB images.
template <class T>
constexpr bool warp_image_by_three(const WarpImageJob& job) {
  return sizeof(T) == 1 && job.channels == 3 && job.source_channel == 1;
}

template <class T>
WarpImageGrid warp_image_grid(const WarpImageJob& job) {
  const int64_t groups = static_cast<int64_t>(job.h) * ((job.w + kWarpImagePixels - 1) / kWarpImagePixels);
  const int64_t channels = warp_image_by_three<T>(job) ? 1 : job.channels, most = 65535;
  return {static_cast<unsigned>((groups + kWarpImageThreads - 1) / kWarpImageThreads),
          static_cast<unsigned>(job.batch < most ? job.batch : most),
          static_cast<unsigned>(channels < most ? channels : most)};
}

}  // namespace cvhpe
