// Where an output pixel reads a picture, and what it makes of its four neighbours there.
//
// Every step is a plain float32 addition or multiplication in a fixed order, and the matrix is made in double and
// rounded once: all CPU levels, the GPU and the pure-torch twin read the same pixels and find the same holes.
// The templates take a scalar or a GCC vector of them.
#pragma once
#include "math/hd.h"
#include "math/number.h"

namespace cvhpe {

// One call of warp_image: what the CPU and the CUDA kernels are told. Steps are in elements.
struct WarpImageJob {
  const void* source;  // [batch, channels, height, width], any steps
  const float* views;  // [batch, 5] packed views, contiguous
  void* out;           // [batch, channels, h, w], planes of pixels or pixels of channels
  int64_t source_picture, source_channel, source_row, source_pixel;
  int64_t out_picture, out_channel, out_row, out_pixel;
  int64_t batch, channels;
  int height, width, h, w;
  double margin, mean, scale, fill;
  int target;         // WarpTarget
  bool nearest_hole;  // else bilinear
};

enum WarpSource { kFromByte, kFromShort, kFromFloat, kFromDouble, kFromBFloat, kFromHalf };
enum WarpTarget { kToFloat, kToDouble, kToBFloat, kToHalf };

}  // namespace cvhpe

CVHPE_MATH_BEGIN

CVHPE_HD float widen(uint8_t x) { return static_cast<float>(x); }
CVHPE_HD float widen(uint16_t x) { return static_cast<float>(x); }

// From output pixels, counted from the picture's centre, to source pixels.
struct WarpMatrix {
  float xx, xy, x0;
  float yx, yy, y0;
};

// Sine and cosine to double precision for |angle| below 10^6; NaN where the angle is not finite. Of our own because
// CUDA's needs a stack frame for its reduction of huge angles.
CVHPE_HD void sincos_(double angle, double& sine, double& cosine) {
  const double to_integer = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to the nearest integer
  const double half_turns = (angle * 0.63661977236758134308 + to_integer) - to_integer;
  // pi / 2 in three pieces; the products with the first two are exact.
  double r = angle - half_turns * 1.57079632673412561417e+00;
  r = (r - half_turns * 6.07710050630396597660e-11) - half_turns * 2.02226624879595063154e-21;
  const double y = r * r;
  const double s = r + r * y * (-1. / 6 + y * (1. / 120 + y * (-1. / 5040 + y * (1. / 362880 + y * (-1. / 39916800 +
                   y * (1. / 6227020800 + y * (-1. / 1307674368000)))))));
  const double c = 1 + y * (-1. / 2 + y * (1. / 24 + y * (-1. / 720 + y * (1. / 40320 + y * (-1. / 3628800 +
                   y * (1. / 479001600 + y * (-1. / 87178291200 + y * (1. / 20922789888000))))))));
  const double wrapped = half_turns - 4 * ((half_turns * 0.25 + to_integer) - to_integer);  // -2, -1, 0, 1 or 2
  const bool odd = wrapped == 1 || wrapped == -1;
  sine = odd ? c : s;
  cosine = odd ? s : c;
  if (wrapped == 2 || wrapped == -2 || wrapped == -1) sine = -sine;
  if (wrapped == 2 || wrapped == -2 || wrapped == 1) cosine = -cosine;
}

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

// The left top neighbour of an output pixel, at most two pixels outside the picture, and how far the pixel is from it.
struct WarpPlace {
  int column, row;
  float fx, fy;
};

// What lies far outside is moved to where all four neighbours are outside; what is not finite leaves NaN behind.
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

// Blend of left top, right top, left bottom, right bottom; exact on constant neighbours and at fx = fy = 0.
template <class V>
CVHPE_HD V blend(V a, V b, V c, V d, V fx, V fy) {
  const V top = a + (b - a) * fx, bottom = c + (d - c) * fx;
  return top + (bottom - top) * fy;
}

// The heaviest of the neighbours that are not 0, or 0 where those weigh less than half together; NaN where a
// coordinate is not finite. Never a mixture of values.
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

// One value of one output pixel, not yet normalised; `plane` is the channel's first pixel. R is float, or double for
// a double source.
template <class R, class T>
CVHPE_HD R warp_sample(const WarpImageJob& job, const T* plane, const WarpPlace& place) {
  const bool left = place.column >= 0 && place.column < job.width;
  const bool right = place.column >= -1 && place.column < job.width - 1;
  const bool top = place.row >= 0 && place.row < job.height;
  const bool bottom = place.row >= -1 && place.row < job.height - 1;
  const R fill = static_cast<R>(job.fill);
  const T* p = plane + (place.row * job.source_row + place.column * job.source_pixel);
  const R a = left && top ? static_cast<R>(widen(p[0])) : fill;
  const R b = right && top ? static_cast<R>(widen(p[job.source_pixel])) : fill;
  const R c = left && bottom ? static_cast<R>(widen(p[job.source_row])) : fill;
  const R d = right && bottom ? static_cast<R>(widen(p[job.source_row + job.source_pixel])) : fill;
  const R fx = static_cast<R>(place.fx), fy = static_cast<R>(place.fy);
  return job.nearest_hole ? nearest_hole(a, b, c, d, fx, fy) : blend(a, b, c, d, fx, fy);
}

CVHPE_MATH_END
