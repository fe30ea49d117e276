// The loops of warp_image on the CPU, compiled once a level.
//
// `vector_span` computes a vector of neighbouring output pixels at a time, borders included, for dense RGB bytes and
// dense planes of bytes, shorts and floats. Other sources take the per-pixel formula of the GPU. Both give the same
// bits.
#include "cpu/warp_image.simd.h"

#include "cpu/warp_image.span.h"
#include "math/number.h"

namespace cvhpe {
namespace CVHPE_LEVEL {
namespace {

using math::WarpMatrix;

// `count` values to the output's type.
template <class Out>
inline void narrow_all(const float* from, int count, Out* to) {
  for (int i = 0; i < count; ++i) to[i] = math::narrow<Out>(from[i]);
}

#if defined(__F16C__)
inline void narrow_all(const float* from, int count, Half* to) {
  int i = 0;
  for (; i + 8 <= count; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < count; ++i) to[i] = math::narrow<Half>(from[i]);
}
#endif

// Three planes to pixels.
inline void interleave(const float* const* planes, int count, float* to) {
  const float *red = planes[0], *green = planes[1], *blue = planes[2];
  for (int i = 0; i < count; ++i) {
    to[3 * i] = red[i];
    to[3 * i + 1] = green[i];
    to[3 * i + 2] = blue[i];
  }
}

// `count` values of `channels` neighbouring channels to the output.
template <class Out>
void store(const float* const* values, int channels, int count, Out* out, int64_t channel_step, int64_t pixel_step) {
  if (pixel_step == 1) {
    for (int c = 0; c < channels; ++c) narrow_all(values[c], count, out + c * channel_step);
  } else if (channels == 3 && pixel_step == 3 && channel_step == 1) {
    if constexpr (__is_same(Out, float)) {
      interleave(values, count, out);
    } else {
      float packed[3 * kSpan];
      interleave(values, count, packed);
      narrow_all(packed, 3 * count, out);
    }
  } else {
    for (int c = 0; c < channels; ++c)
      for (int i = 0; i < count; ++i)
        out[c * channel_step + i * pixel_step] = math::narrow<Out>(values[c][i]);
  }
}

void store_span(const WarpImageJob& job, const float* const* values, int channels, int count, int64_t offset) {
  const auto to = [&](auto* out) {
    store(values, channels, count, out + offset, job.out_channel, job.out_pixel);
  };
  switch (job.target) {
    case kToFloat: return to(static_cast<float*>(job.out));
    case kToBFloat: return to(static_cast<BFloat*>(job.out));
    default: return to(static_cast<Half*>(job.out));
  }
}

// Prefetches a part of the next image: the hardware does not predict the rows of a rotated image.
inline void prefetch_share(const uint8_t* next, int64_t bytes, int j, int h) {
  constexpr int64_t line = 64;
  const int64_t begin = bytes * j / h / line * line, end = bytes * (j + 1) / h;
  for (int64_t at = begin; at < end; at += line) __builtin_prefetch(next + at, 0, 2);
}

// Calls f(image, output row, matrix of the image) for rows [begin, end) of the batch.
template <class F>
inline void each_row(const WarpImageJob& job, int64_t begin, int64_t end, const F& f) {
  WarpMatrix matrix{};
  for (int64_t r = begin, known = -1; r < end; ++r) {
    const int64_t image = r / job.h;
    if (image != known)
      matrix = math::warp_matrix(job.views + image * 5, job.margin, job.h, job.w, job.height, job.width);
    known = image;
    f(image, static_cast<int>(r - image * job.h), matrix);
  }
}

// Whether `Pair` can read this source: dense pixels, and offsets within an image that fit in 31 bits.
template <class Pair>
bool fits(const WarpImageJob& job) {
  constexpr int64_t size = sizeof(typename Pair::Element);
  const int64_t bytes = ((job.height - 1) * job.source_row + job.width * job.source_pixel) * size;
  const bool dense = job.source_pixel * size == Pair::kPixel && (Pair::kChannels == 1 || job.source_channel == 1);
  return dense && job.channels % Pair::kChannels == 0 && (Pair::kChannels == 1 || job.channels == Pair::kChannels) &&
         job.width >= 2 && bytes >= Pair::kRead && bytes < (int64_t(1) << 31);
}

template <class Pair, bool kNearest>
void vector_rows(const WarpImageJob& job, int64_t begin, int64_t end) {
  using Element = typename Pair::Element;
  constexpr int size = sizeof(Element);
  alignas(64) float tiles[Pair::kChannels][kSpan];
  Row row{};
  row.mean = static_cast<float>(job.mean);
  row.scale = static_cast<float>(job.scale);
  row.fill = static_cast<float>(job.fill);
  row.width = job.width;
  row.height = job.height;
  row.pitch = static_cast<int>(job.source_row) * size;
  row.inner_columns = job.width - 1;
  row.inner_rows = job.height - (Pair::kRead > 2 * Pair::kPixel ? 2 : 1);  // the last row's last word reads too far
  if (row.inner_rows < 0) row.inner_rows = 0;
  row.last = (job.height - 1) * row.pitch + job.width * Pair::kPixel - Pair::kRead;
  const bool planes = job.target == kToFloat && job.out_pixel == 1;
  each_row(job, begin, end, [&](int64_t image, int j, const WarpMatrix& m) {
    const float dj = math::warp_centred(j, job.h);
    const auto* pixels = static_cast<const Element*>(job.source) + image * job.source_image;
    if (image + 1 < job.batch)
      prefetch_share(reinterpret_cast<const uint8_t*>(pixels + job.source_image), row.last, j, job.h);
    row.x_along = m.xx;
    row.x_start = dj * m.xy + m.x0;
    row.y_along = m.yx;
    row.y_start = dj * m.yy + m.y0;
    for (int64_t channel = 0; channel < job.channels; channel += Pair::kChannels) {
      row.image = reinterpret_cast<const uint8_t*>(pixels + channel * job.source_channel);
      for (int first = 0; first < job.w; first += kSpan) {
        const int count = job.w - first < kSpan ? job.w - first : kSpan;
        const int64_t offset = image * job.out_image + channel * job.out_channel + j * job.out_row +
                               first * job.out_pixel;
        const bool direct = planes && count % kLanes == 0;  // else a vector would write beyond the row
        float* to[Pair::kChannels];
        for (int c = 0; c < Pair::kChannels; ++c)
          to[c] = direct ? static_cast<float*>(job.out) + offset + c * job.out_channel : tiles[c];
        vector_span<Pair, kNearest>(row, math::warp_centred(first, job.w), count, to);
        if (!direct) store_span(job, to, Pair::kChannels, count, offset);
      }
    }
  });
}

template <class T>
void pixel_rows(const WarpImageJob& job, int64_t begin, int64_t end) {
  const float mean = static_cast<float>(job.mean), scale = static_cast<float>(job.scale);
  float values[kSpan];
  each_row(job, begin, end, [&](int64_t image, int j, const WarpMatrix& m) {
    for (int64_t channel = 0; channel < job.channels; ++channel) {
      const T* plane =
          static_cast<const T*>(job.source) + image * job.source_image + channel * job.source_channel;
      for (int first = 0; first < job.w; first += kSpan) {
        const int count = job.w - first < kSpan ? job.w - first : kSpan;
        for (int i = 0; i < count; ++i)
          values[i] = (math::warp_sample(job, plane, math::warp_place(m, job, first + i, j)) - mean) * scale;
        const float* from[1] = {values};
        store_span(job, from, 1, count,
                      image * job.out_image + channel * job.out_channel + j * job.out_row + first * job.out_pixel);
      }
    }
  });
}

template <class Pair>
void rows_as(const WarpImageJob& job, int64_t begin, int64_t end) {
  if (!fits<Pair>(job)) return pixel_rows<typename Pair::Element>(job, begin, end);
  return job.nearest_hole ? vector_rows<Pair, true>(job, begin, end) : vector_rows<Pair, false>(job, begin, end);
}

void rows_of_bytes(const WarpImageJob& job, int64_t begin, int64_t end) {
  return fits<RgbBytes>(job) ? rows_as<RgbBytes>(job, begin, end) : rows_as<Bytes>(job, begin, end);
}

}  // namespace

extern const WarpImageTable warp_image_table = {{rows_of_bytes, rows_as<Shorts>, rows_as<Singles>}};

}  // namespace CVHPE_LEVEL
}  // namespace cvhpe
