// Which source pixels an output pixel reads, and the value it makes of those four neighbours.
//
// Every step is a float32 addition or multiplication in a fixed order, and the matrix is computed in float64 and
// rounded once: all CPU levels, the GPU and the reference implementation read the same pixels and give the same bits.
// The templates take a scalar or a GCC vector.
#pragma once
#include "math/elementary.h"
#include "math/hd.h"
#include "math/number.h"

namespace cvhpe {

// The arguments of the CPU and CUDA kernels. Strides are in elements.
struct WarpImageJob {
  const void* source;  // [batch, channels, height, width], any strides
  const float* views;  // [batch, 5] packed views, contiguous
  void* out;           // [batch, channels, h, w], planes of pixels or pixels of channels
  int64_t source_image, source_channel, source_row, source_pixel;
  int64_t out_image, out_channel, out_row, out_pixel;
  int64_t batch, channels;
  int height, width, h, w;
  double margin, mean, scale, fill;
  int target;         // WarpTarget
  bool nearest_hole;  // else bilinear
};

enum WarpSource { kFromByte, kFromShort, kFromFloat };
enum WarpTarget { kToFloat, kToBFloat, kToHalf };

}  // namespace cvhpe

CVHPE_MATH_BEGIN

CVHPE_HD float widen(uint8_t x) { return static_cast<float>(x); }
CVHPE_HD float widen(uint16_t x) { return static_cast<float>(x); }

// The affine map from output pixels, counted from the image's centre, to source pixels.
struct WarpMatrix {
  float xx, xy, x0;
  float yx, yy, y0;
};

// `view` is a packed view: angle, scale, shift x, shift y, flip. Output h x w, source height x width.
CVHPE_HD WarpMatrix warp_matrix(const float* view, double margin, int h, int w, int height, int width) {
  const double zoom = view[1] * margin, tx = view[2], ty = view[3], f = view[4] > 0.5f ? -1 : 1;
  double c, s;
  sincos_(view[0], s, c);
  c /= zoom;
  s /= zoom;
  const double wide = width, high = height;
  WarpMatrix m;
  m.xx = static_cast<float>(f * c * (wide / w));
  m.xy = static_cast<float>(f * s * (wide / h));
  m.x0 = static_cast<float>((wide - 1) / 2 - f * (c * tx + s * ty) * wide);
  m.yx = static_cast<float>((0.0 - s) * (high / w));
  m.yy = static_cast<float>(c * (high / h));
  m.y0 = static_cast<float>((high - 1) / 2 - (c * ty - s * tx) * high);
  return m;
}

// The top left neighbour of an output pixel, at most two pixels outside the image, and the distance from it.
struct WarpPlace {
  int column, row;
  float fx, fy;
};

// A coordinate far outside is clamped to where all four neighbours are outside; one that is not finite gives NaN.
CVHPE_HD void warp_split(float x, int size, int& whole, float& part) {
  float bounded = x > -2.f ? x : -2.f;
  bounded = bounded < static_cast<float>(size) ? bounded : static_cast<float>(size);
  whole = static_cast<int>(bounded);
  whole -= static_cast<float>(whole) > bounded;
  part = (bounded - static_cast<float>(whole)) + (x - x);
}

CVHPE_HD float warp_centred(int index, int size) {
  return static_cast<float>(index) - static_cast<float>(size - 1) * 0.5f;
}

CVHPE_HD WarpPlace warp_place(const WarpMatrix& m, const WarpImageJob& job, int i, int j) {
  const float di = warp_centred(i, job.w), dj = warp_centred(j, job.h);
  WarpPlace place;
  warp_split(di * m.xx + (dj * m.xy + m.x0), job.width, place.column, place.fx);
  warp_split(di * m.yx + (dj * m.yy + m.y0), job.height, place.row, place.fy);
  return place;
}

// Blend of top left, top right, bottom left, bottom right; exact on constant neighbours and at fx = fy = 0.
template <class V>
CVHPE_HD V blend(V a, V b, V c, V d, V fx, V fy) {
  const V top = a + (b - a) * fx, bottom = c + (d - c) * fx;
  return top + (bottom - top) * fy;
}

// The nonzero neighbour of the largest weight, or 0 where the nonzero ones weigh less than half together; NaN where a
// coordinate is not finite. Values never mix.
template <class V>
CVHPE_HD V nearest_hole(V a, V b, V c, V d, V fx, V fy) {
  const V zero = V{}, gx = 1.f - fx, gy = 1.f - fy;
  const V wa = a != zero ? gx * gy : zero, wb = b != zero ? fx * gy : zero;
  const V wc = c != zero ? gx * fy : zero, wd = d != zero ? fx * fy : zero;
  V value = wa > zero ? a : zero, best = wa;
  value = wb > best ? b : value;
  best = wb > best ? wb : best;
  value = wc > best ? c : value;
  best = wc > best ? wc : best;
  value = wd > best ? d : value;
  const V covered = ((wa + wb) + wc) + wd;
  const V poison = (fx - fx) + (fy - fy);
  return (covered >= zero + 0.5f ? value : zero) + poison;
}

// One value of one output pixel, before the normalisation; `plane` is the channel's first pixel.
template <class T>
CVHPE_HD float warp_sample(const WarpImageJob& job, const T* plane, const WarpPlace& place) {
  const bool left = place.column >= 0 && place.column < job.width;
  const bool right = place.column >= -1 && place.column < job.width - 1;
  const bool top = place.row >= 0 && place.row < job.height;
  const bool bottom = place.row >= -1 && place.row < job.height - 1;
  const float fill = static_cast<float>(job.fill);
  const T* p = plane + (place.row * job.source_row + place.column * job.source_pixel);
  const float a = left && top ? widen(p[0]) : fill;
  const float b = right && top ? widen(p[job.source_pixel]) : fill;
  const float c = left && bottom ? widen(p[job.source_row]) : fill;
  const float d = right && bottom ? widen(p[job.source_row + job.source_pixel]) : fill;
  return job.nearest_hole ? nearest_hole(a, b, c, d, place.fx, place.fy)
                          : blend(a, b, c, d, place.fx, place.fy);
}

CVHPE_MATH_END
