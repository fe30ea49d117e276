// The loops of sample_kl on the CPU, compiled once a level. Plain loops over the formulas of math/: the compiler
// vectorises them, because the formulas are branch-free.
#include "cpu/sample_kl.simd.h"

#include "cpu/philox_vector.h"
#include "math/gauss.h"
#include "math/noise.h"
#include "math/number.h"

namespace cvhpe {
namespace CVHPE_LEVEL {
namespace {

constexpr int64_t kPiece = 1024;  // elements at a time: their inputs and results stay in the L1 cache
constexpr int kApart = 32;        // keeps the arrays of a piece from lying 4096 bytes apart (4K aliasing)
constexpr int kLanes = 16;        // partial sums of a row; the GPU adds in the same order

// Whether all |logvar| are at most 172, so that exp_normal gives sigma.
template <class T>
inline bool all_normal(const T* logvar, int64_t count) {
  uint32_t largest = 0;  // compared as integers: the order is the same, NaN comes last, and the loop vectorises
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t size = math::bits_of(math::widen(logvar[i])) & 0x7fffffffu;
    largest = size > largest ? size : largest;
  }
  return largest <= 0x432c0000u;  // 172
}

template <bool kNormal>
inline float sigma_of(float logvar) {
  if constexpr (kNormal) return math::exp_normal(0.5f * logvar);
  else return math::gauss_sigma(logvar);
}

// Noise of elements [first, first + count), written to `buffer` (kPiece elements and 2 groups); returns its first
// element.
const float* noise(const RoundKeys& keys, int64_t first, int64_t count, float* buffer) {
  const int64_t group = first / math::kNoiseGroup, last = (first + count + math::kNoiseGroup - 1) / math::kNoiseGroup;
  normal_groups(static_cast<uint64_t>(group), last - group, keys, buffer);
  return buffer + (first - group * math::kNoiseGroup);
}

// The rows of a piece: as many as fit, if possible in whole groups of noise, as the next piece computes a group that is
// cut again.
inline int64_t rows_of_piece(int64_t columns) {
  const int64_t fit = kPiece / columns, odd = columns & -columns;  // the power of two in `columns`
  const int64_t whole = odd >= math::kNoiseGroup ? 1 : math::kNoiseGroup / odd;
  return fit >= whole ? fit - fit % whole : fit;
}

// Calls f(first element, count, first row, rows, first column) for pieces that are contiguous in memory: several rows
// or a part of one.
template <class F>
inline void pieces(int64_t columns, int64_t begin, int64_t end, const F& f) {
  if (columns <= kPiece) {
    const int64_t rows = columns > 0 ? rows_of_piece(columns) : end - begin;
    for (int64_t r = begin; r < end; r += rows) {
      const int64_t n = end - r < rows ? end - r : rows;
      f(r * columns, n * columns, r, n, int64_t(0));
    }
    return;
  }
  for (int64_t r = begin; r < end; ++r)
    for (int64_t c = 0; c < columns; c += kPiece)
      f(r * columns + c, columns - c < kPiece ? columns - c : kPiece, r, int64_t(1), c);
}

// The lanes of the last, incomplete vector of a row: all bits or none. (A comparison within the loop would keep it from
// vectorising.)
struct Tail {
  uint32_t keep[kLanes];
  explicit Tail(int64_t count) {
    for (int j = 0; j < kLanes; ++j) keep[j] = j < count % kLanes ? ~0u : 0u;
  }
};

// Adds `count` terms to the lanes: term d to lane d mod 16. `terms` may be read up to 15 beyond its end.
inline void add_to_lanes(const float* terms, int64_t count, const Tail& tail, float* lanes) {
  int64_t d = 0;
  for (; d + kLanes <= count; d += kLanes)
    for (int j = 0; j < kLanes; ++j) lanes[j] += terms[d + j];
  if (d == count) return;
  for (int j = 0; j < kLanes; ++j)
    lanes[j] += __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, terms[d + j]) & tail.keep[j]);
}

// KL of `rows` rows: the terms of a row are added in 16 lanes and then up a tree, one level for all rows at a time.
inline void sum_rows(const float* terms, int64_t rows, int64_t columns, float* kl) {
  constexpr int64_t kRows = 32;
  const Tail tail(columns);
  alignas(64) float a[kRows * 16], b[kRows * 8], c[kRows * 4];
  for (int64_t first = 0; first < rows; first += kRows) {
    const int64_t n = rows - first < kRows ? rows - first : kRows;
    for (int64_t r = 0; r < n; ++r) {
      float lanes[kLanes] = {};
      add_to_lanes(terms + (first + r) * columns, columns, tail, lanes);
      for (int j = 0; j < kLanes; ++j) a[16 * r + j] = lanes[j];
    }
    for (int64_t r = 0; r < n; ++r)
      for (int j = 0; j < 8; ++j) b[8 * r + j] = a[16 * r + j] + a[16 * r + j + 8];
    for (int64_t r = 0; r < n; ++r)
      for (int j = 0; j < 4; ++j) c[4 * r + j] = b[8 * r + j] + b[8 * r + j + 4];
    for (int64_t r = 0; r < n; ++r)
      kl[first + r] = 0.5f * ((c[4 * r] + c[4 * r + 2]) + (c[4 * r + 1] + c[4 * r + 3]));
  }
}

inline float sum_lanes(const float* lanes) {
  float a[kLanes / 2];
  for (int j = 0; j < 8; ++j) a[j] = lanes[j] + lanes[j + 8];
  for (int j = 0; j < 4; ++j) a[j] += a[j + 4];
  for (int j = 0; j < 2; ++j) a[j] += a[j + 2];
  return a[0] + a[1];
}

template <bool kNormal, class T>
inline void sigma_and_terms_with(const T* mu, const T* logvar, int64_t count, float* sigma, float* terms) {
  for (int64_t i = 0; i < count; ++i) {
    const float a = math::widen(mu[i]), b = math::widen(logvar[i]);
    sigma[i] = sigma_of<kNormal>(b);
    terms[i] = math::gauss_kl_twice(a, b, sigma[i]);
  }
}

template <class T>
inline void sigma_and_terms(const T* mu, const T* logvar, int64_t count, float* sigma, float* terms) {
  if (all_normal(logvar, count)) return sigma_and_terms_with<true>(mu, logvar, count, sigma, terms);
  sigma_and_terms_with<false>(mu, logvar, count, sigma, terms);
}

template <class T>
void forward(const SampleKlLoop& loop, int64_t begin, int64_t end) {
  const RoundKeys keys(loop.key);
  const T* mu = static_cast<const T*>(loop.mu);
  const T* logvar = static_cast<const T*>(loop.logvar);
  float* kl = static_cast<float*>(loop.kl);
  alignas(64) float sigma[kPiece + kApart], terms[kPiece + kLanes + kApart];
  alignas(64) float buffer[kPiece + 2 * math::kNoiseGroup];
  alignas(64) float lanes[kLanes] = {};
  for (int j = 0; j < kLanes; ++j) terms[kPiece + j] = 0.f;
  pieces(loop.columns, begin, end, [&](int64_t first, int64_t count, int64_t row, int64_t rows, int64_t column) {
    const T* m = mu + first;
    const T* l = logvar + first;
    sigma_and_terms(m, l, count, sigma, terms);
    if (loop.columns <= kPiece) {
      sum_rows(terms, rows, loop.columns, kl + row);
    } else {
      for (int j = 0; j < kLanes && column == 0; ++j) lanes[j] = 0.f;
      add_to_lanes(terms, count, Tail(count), lanes);
      kl[row] = 0.5f * sum_lanes(lanes);
    }
    const float* e = noise(keys, first, count, buffer);
    T* z = static_cast<T*>(loop.z) + first;
    for (int64_t i = 0; i < count; ++i) z[i] = math::narrow<T>(math::gauss_sample(math::widen(m[i]), sigma[i], e[i]));
  });
}

// The gradients of elements [0, count). kSampled: grad_z and noise are given; grad_kl holds the row's gradient at every
// element.
template <bool kNormal, bool kSampled, class T>
inline void gradients_with(const T* mu, const T* logvar, const T* grad_z, const float* noise, const float* grad_kl,
                           int64_t count, T* __restrict grad_mu, T* __restrict grad_logvar) {
  for (int64_t i = 0; i < count; ++i) {
    const float g = kSampled ? math::widen(grad_z[i]) : 0.f, e = kSampled ? noise[i] : 0.f;
    float of_mu, of_logvar;
    math::gauss_backward(math::widen(mu[i]), sigma_of<kNormal>(math::widen(logvar[i])), g, e, grad_kl[i], of_mu,
                         of_logvar);
    grad_mu[i] = math::narrow<T>(of_mu);
    grad_logvar[i] = math::narrow<T>(of_logvar);
  }
}

template <bool kSampled, class T>
inline void gradients(const T* mu, const T* logvar, const T* grad_z, const float* noise, const float* grad_kl,
                      int64_t count, T* grad_mu, T* grad_logvar) {
  if (all_normal(logvar, count))
    return gradients_with<true, kSampled>(mu, logvar, grad_z, noise, grad_kl, count, grad_mu, grad_logvar);
  gradients_with<false, kSampled>(mu, logvar, grad_z, noise, grad_kl, count, grad_mu, grad_logvar);
}

template <class T>
void backward(const SampleKlLoop& loop, int64_t begin, int64_t end) {
  const RoundKeys keys(loop.key);
  const float* of_row = static_cast<const float*>(loop.grad_kl);
  alignas(64) float grad_kl[kPiece + kLanes], buffer[kPiece + 2 * math::kNoiseGroup];
  pieces(loop.columns, begin, end, [&](int64_t first, int64_t count, int64_t row, int64_t rows, int64_t) {
    const int64_t width = count / rows;
    for (int64_t r = 0; r < rows; ++r) {  // whole vectors: the next row overwrites the excess
      const float g = of_row == nullptr ? 0.f : of_row[row + r];
      for (int64_t d = 0; d < width; d += kLanes)
        for (int j = 0; j < kLanes; ++j) grad_kl[r * width + d + j] = g;
    }
    const T* mu = static_cast<const T*>(loop.mu) + first;
    const T* logvar = static_cast<const T*>(loop.logvar) + first;
    const T* grad_z = loop.grad_z == nullptr ? nullptr : static_cast<const T*>(loop.grad_z) + first;
    T* grad_mu = static_cast<T*>(loop.grad_mu) + first;
    T* grad_logvar = static_cast<T*>(loop.grad_logvar) + first;
    if (grad_z == nullptr) return gradients<false>(mu, logvar, grad_z, buffer, grad_kl, count, grad_mu, grad_logvar);
    const float* e = noise(keys, first, count, buffer);
    gradients<true>(mu, logvar, grad_z, e, grad_kl, count, grad_mu, grad_logvar);
  });
}

}  // namespace

extern const SampleKlTable sample_kl_table = {
    {forward<float>, forward<BFloat>, forward<Half>},
    {backward<float>, backward<BFloat>, backward<Half>},
};

}  // namespace CVHPE_LEVEL
}  // namespace cvhpe
