// The loops of sample_kl on the CPU, compiled once a level. Plain loops over the formulas of math/: the compiler
// vectorises them, because the formulas are branch-free.
#include "cpu/sample_kl.simd.h"

#include <type_traits>

#include "cpu/philox_vector.h"
#include "math/gauss.h"
#include "math/noise.h"
#include "math/number.h"

namespace cvhpe {
namespace CVHPE_LEVEL {
namespace {

using math::exp_;

constexpr int64_t kPiece = 1024;  // elements at a time: what is read and made of them stays in the L1 cache
constexpr int kApart = 32;        // keeps arrays of a piece from lying 4096 bytes apart, which loads mistake for the same
constexpr int kLanes = 16;        // partial sums of a row; the GPU adds in the same order

// Whether no |logvar| is above 172 (or NaN), so that exp_normal serves for sigma.
template <class T>
inline bool all_normal(const T* logvar, int64_t count) {
  uint32_t largest = 0;  // compared as integers: the order is the same, NaN comes last, and the loop vectorises
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t size = math::bits_of(static_cast<float>(math::widen(logvar[i]))) & 0x7fffffffu;
    largest = size > largest ? size : largest;
  }
  return largest <= 0x432c0000u;  // 172
}

template <bool kNormal, class W>
inline W sigma_of(W logvar) {
  if constexpr (kNormal) return math::exp_normal(W(0.5) * logvar);
  else return math::gauss_sigma(logvar);
}

// Noise of elements [first, first + count), written to `buffer` (room for kPiece + 2 groups); returns where it starts.
const float* noise(const SampleKlLoop& loop, const RoundKeys& keys, int64_t first, int64_t count, float* buffer) {
  const int64_t group = first / math::kNoiseGroup, last = (first + count + math::kNoiseGroup - 1) / math::kNoiseGroup;
  normal_groups(static_cast<uint64_t>(group), last - group, loop.stream, keys, buffer);
  return buffer + (first - group * math::kNoiseGroup);
}

// How many rows make a piece: as many as fit, in whole groups of noise where that can be, as what a group has beyond
// the end of a piece is made again for the next one.
inline int64_t rows_of_piece(int64_t columns) {
  const int64_t fit = kPiece / columns, odd = columns & -columns;  // the power of two in `columns`
  const int64_t whole = odd >= math::kNoiseGroup ? 1 : math::kNoiseGroup / odd;
  return fit >= whole ? fit - fit % whole : fit;
}

// Calls f(first element, count, first row, rows, first column) over pieces that are contiguous in memory: several
// whole rows, or a part of one.
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

template <class W>
using BitsOf = std::conditional_t<sizeof(W) == 8, uint64_t, uint32_t>;

// Which lanes the last, incomplete vector of a row has: all bits or none. (A comparison within the loop would leave
// it scalar.)
template <class W>
struct Tail {
  BitsOf<W> keep[kLanes];
  explicit Tail(int64_t count) {
    for (int j = 0; j < kLanes; ++j) keep[j] = j < count % kLanes ? ~BitsOf<W>(0) : BitsOf<W>(0);
  }
};

// Adds `count` terms to the lanes: term d to lane d mod 16. `terms` may be read up to 15 beyond its end.
template <class W>
inline void add_to_lanes(const W* terms, int64_t count, const Tail<W>& tail, W* lanes) {
  int64_t d = 0;
  for (; d + kLanes <= count; d += kLanes)
    for (int j = 0; j < kLanes; ++j) lanes[j] += terms[d + j];
  if (d == count) return;
  for (int j = 0; j < kLanes; ++j)
    lanes[j] += __builtin_bit_cast(W, __builtin_bit_cast(BitsOf<W>, terms[d + j]) & tail.keep[j]);
}

// KL of `rows` whole rows: every row's terms to 16 lanes, then up a tree, a level for all rows before the next one.
template <class W>
inline void sum_rows(const W* terms, int64_t rows, int64_t columns, W* kl) {
  constexpr int64_t kRows = 32;
  const Tail<W> tail(columns);
  alignas(64) W a[kRows * 16], b[kRows * 8], c[kRows * 4];
  for (int64_t first = 0; first < rows; first += kRows) {
    const int64_t n = rows - first < kRows ? rows - first : kRows;
    for (int64_t r = 0; r < n; ++r) {
      W lanes[kLanes] = {};
      add_to_lanes(terms + (first + r) * columns, columns, tail, lanes);
      for (int j = 0; j < kLanes; ++j) a[16 * r + j] = lanes[j];
    }
    for (int64_t r = 0; r < n; ++r)
      for (int j = 0; j < 8; ++j) b[8 * r + j] = a[16 * r + j] + a[16 * r + j + 8];
    for (int64_t r = 0; r < n; ++r)
      for (int j = 0; j < 4; ++j) c[4 * r + j] = b[8 * r + j] + b[8 * r + j + 4];
    for (int64_t r = 0; r < n; ++r)
      kl[first + r] = W(0.5) * ((c[4 * r] + c[4 * r + 2]) + (c[4 * r + 1] + c[4 * r + 3]));
  }
}

template <class W>
inline W sum_lanes(const W* lanes) {
  W a[kLanes / 2];
  for (int j = 0; j < 8; ++j) a[j] = lanes[j] + lanes[j + 8];
  for (int j = 0; j < 4; ++j) a[j] += a[j + 4];
  for (int j = 0; j < 2; ++j) a[j] += a[j + 2];
  return a[0] + a[1];
}

template <bool kNormal, class T>
inline void sigma_and_terms_with(const T* mu, const T* logvar, int64_t count, Wide<T>* sigma, Wide<T>* terms) {
  for (int64_t i = 0; i < count; ++i) {
    const Wide<T> a = math::widen(mu[i]), b = math::widen(logvar[i]);
    sigma[i] = sigma_of<kNormal>(b);
    terms[i] = math::gauss_kl_twice(a, b, sigma[i]);
  }
}

template <class T>
inline void sigma_and_terms(const T* mu, const T* logvar, int64_t count, Wide<T>* sigma, Wide<T>* terms) {
  if constexpr (!std::is_same_v<T, double>)
    if (all_normal(logvar, count)) return sigma_and_terms_with<true>(mu, logvar, count, sigma, terms);
  sigma_and_terms_with<false>(mu, logvar, count, sigma, terms);
}

template <class T>
void forward(const SampleKlLoop& loop, int64_t begin, int64_t end) {
  using W = Wide<T>;
  const RoundKeys keys(loop.key);
  const T* mu = static_cast<const T*>(loop.mu);
  const T* logvar = static_cast<const T*>(loop.logvar);
  W* kl = static_cast<W*>(loop.kl);
  alignas(64) W sigma[kPiece + kApart], terms[kPiece + kLanes + kApart];
  alignas(64) float buffer[kPiece + 2 * math::kNoiseGroup];
  alignas(64) W lanes[kLanes] = {};
  for (int j = 0; j < kLanes; ++j) terms[kPiece + j] = W(0);
  pieces(loop.columns, begin, end, [&](int64_t first, int64_t count, int64_t row, int64_t rows, int64_t column) {
    const T* m = mu + first;
    const T* l = logvar + first;
    sigma_and_terms(m, l, count, sigma, terms);
    if (loop.columns <= kPiece) {
      sum_rows(terms, rows, loop.columns, kl + row);
    } else {
      for (int j = 0; j < kLanes && column == 0; ++j) lanes[j] = W(0);
      add_to_lanes(terms, count, Tail<W>(count), lanes);
      kl[row] = W(0.5) * sum_lanes(lanes);
    }
    for (int64_t s = 0; s < loop.samples; ++s) {
      const int64_t offset = s * loop.rows * loop.columns + first;
      const float* e = noise(loop, keys, offset, count, buffer);
      T* z = static_cast<T*>(loop.z) + offset;
      for (int64_t i = 0; i < count; ++i)
        z[i] = math::narrow<T>(math::gauss_sample(W(math::widen(m[i])), sigma[i], W(e[i])));
    }
  });
}

// What reaches mu and logvar of elements [first, first + count). of_z(i) and of_z_noise(i) give the sums over the
// samples of grad_z and of grad_z * noise; of_kl has the row's grad_kl at every element.
template <bool kNormal, class T, class Z, class N>
inline void gradients_with(const SampleKlLoop& loop, int64_t first, int64_t count, const Z& of_z, const N& of_z_noise,
                      const Wide<T>* of_kl) {
  using W = Wide<T>;
  const T* mu = static_cast<const T*>(loop.mu) + first;
  const T* logvar = static_cast<const T*>(loop.logvar) + first;
  T* grad_mu = static_cast<T*>(loop.grad_mu) + first;
  T* grad_logvar = static_cast<T*>(loop.grad_logvar) + first;
  for (int64_t i = 0; i < count; ++i) {
    const W m = math::widen(mu[i]), sigma = sigma_of<kNormal>(W(math::widen(logvar[i])));
    W of_mu, of_logvar;
    math::gauss_backward(m, sigma, of_z(i), of_z_noise(i), of_kl[i], of_mu, of_logvar);
    grad_mu[i] = math::narrow<T>(of_mu);
    grad_logvar[i] = math::narrow<T>(of_logvar);
  }
}

template <class T, class Z, class N>
inline void gradients(const SampleKlLoop& loop, int64_t first, int64_t count, const Z& of_z, const N& of_z_noise,
                      const Wide<T>* of_kl) {
  if constexpr (!std::is_same_v<T, double>)
    if (all_normal(static_cast<const T*>(loop.logvar) + first, count))
      return gradients_with<true, T>(loop, first, count, of_z, of_z_noise, of_kl);
  gradients_with<false, T>(loop, first, count, of_z, of_z_noise, of_kl);
}

template <class T>
void backward(const SampleKlLoop& loop, int64_t begin, int64_t end) {
  using W = Wide<T>;
  const RoundKeys keys(loop.key);
  const T* grad_z = static_cast<const T*>(loop.grad_z);
  const W* grad_kl = static_cast<const W*>(loop.grad_kl);
  alignas(64) W of_z[kPiece], of_z_noise[kPiece], of_kl[kPiece + kLanes];
  alignas(64) float buffer[kPiece + 2 * math::kNoiseGroup];
  pieces(loop.columns, begin, end, [&](int64_t first, int64_t count, int64_t row, int64_t rows, int64_t) {
    const int64_t width = count / rows;
    for (int64_t r = 0; r < rows; ++r) {  // whole vectors: what goes beyond a row is written again by the next one
      const W g = grad_kl == nullptr ? W(0) : grad_kl[row + r];
      for (int64_t d = 0; d < width; d += kLanes)
        for (int j = 0; j < kLanes; ++j) of_kl[r * width + d + j] = g;
    }
    if (grad_z != nullptr && loop.samples == 1) {  // the usual case goes without the sums
      const float* e = noise(loop, keys, first, count, buffer);
      const T* g = grad_z + first;
      return gradients<T>(
          loop, first, count, [&](int64_t i) { return W(0) + math::widen(g[i]); },
          [&](int64_t i) { return W(0) + math::widen(g[i]) * W(e[i]); }, of_kl);
    }
    for (int64_t i = 0; i < count; ++i) of_z[i] = of_z_noise[i] = W(0);
    for (int64_t s = 0; grad_z != nullptr && s < loop.samples; ++s) {
      const int64_t offset = s * loop.rows * loop.columns + first;
      const float* e = noise(loop, keys, offset, count, buffer);
      const T* g = grad_z + offset;
      for (int64_t i = 0; i < count; ++i) {
        const W wide = math::widen(g[i]);
        of_z[i] += wide;
        of_z_noise[i] += wide * W(e[i]);
      }
    }
    gradients<T>(
        loop, first, count, [&](int64_t i) { return of_z[i]; }, [&](int64_t i) { return of_z_noise[i]; }, of_kl);
  });
}

}  // namespace

extern const SampleKlTable sample_kl_table = {
    {forward<float>, forward<double>, forward<BFloat>, forward<Half>},
    {backward<float>, backward<double>, backward<BFloat>, backward<Half>},
};

}  // namespace CVHPE_LEVEL
}  // namespace cvhpe
