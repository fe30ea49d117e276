// The vector passes of warp_image.simd.cpp over a span of an output row: `locate` computes coordinates, `fetch` loads
// the source pixels, `finish` blends them. Compiled once a level.
#pragma once
#include "math/warp_image.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cvhpe {
namespace CVHPE_LEVEL {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
constexpr int kSpan = 256;  // output columns at a time: what is made of them stays in the L1 cache

// Vectors of GCC and Clang: operators work lane by lane, a comparison gives -1 or 0, `mask ? a : b` selects.
typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));

inline __attribute__((always_inline)) Floats floats(float x) { return Floats{} + x; }
inline __attribute__((always_inline)) Ints ints(int32_t x) { return Ints{} + x; }
inline __attribute__((always_inline)) Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }

// Are all x in [0, columns) and all y in [0, rows)?
inline __attribute__((always_inline)) bool all_below(Ints x, int columns, Ints y, int rows) {
#if defined(__AVX512F__)
  const __mmask16 inside = _mm512_cmplt_epu32_mask(reinterpret_cast<__m512i>(x), _mm512_set1_epi32(columns));
  return _mm512_mask_cmplt_epu32_mask(inside, reinterpret_cast<__m512i>(y), _mm512_set1_epi32(rows)) == 0xffff;
#else
  const Ints mask = (Words(x) < Words(ints(columns))) & (Words(y) < Words(ints(rows)));
#if defined(__AVX2__)
  return _mm256_movemask_ps(reinterpret_cast<__m256>(mask)) == 0xff;
#else
  return (mask[0] & mask[1] & mask[2] & mask[3]) != 0;
#endif
#endif
}

// Floor, within the range of Ints.
inline __attribute__((always_inline)) Floats floor_(Floats x) {
#if defined(__AVX512F__)
  constexpr int down = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
  return reinterpret_cast<Floats>(_mm512_roundscale_ps(reinterpret_cast<__m512>(x), down));
#elif defined(__AVX2__)
  return reinterpret_cast<Floats>(_mm256_floor_ps(reinterpret_cast<__m256>(x)));
#else
  const Floats whole = to_floats(__builtin_convertvector(x, Ints));
  return whole > x ? whole - 1.f : whole;
#endif
}

// Two neighbouring pixels of a row in one 64-bit word, whose low half is `low` and whose high half is `high`.
struct RgbBytes {
  using Element = uint8_t;
  static constexpr int kChannels = 3, kPixel = 3, kRead = 8;  // bytes of a pixel, bytes that `load` touches
  static uint64_t load(const uint8_t* p) {
    uint64_t word;
    __builtin_memcpy(&word, p, 8);
    return word;
  }
  static Floats left(Words low, Words, int channel) { return to_floats(Ints((low >> (8 * channel)) & 255u)); }
  static Floats right(Words low, Words high, int channel) {
    return to_floats(Ints(channel == 0 ? low >> 24 : (high >> (8 * (channel - 1))) & 255u));
  }
};

struct Bytes {
  using Element = uint8_t;
  static constexpr int kChannels = 1, kPixel = 1, kRead = 2;
  static uint64_t load(const uint8_t* p) {
    uint16_t word;
    __builtin_memcpy(&word, p, 2);
    return word;
  }
  static Floats left(Words low, Words, int) { return to_floats(Ints(low & 255u)); }
  static Floats right(Words low, Words, int) { return to_floats(Ints(low >> 8)); }
};

struct Shorts {
  using Element = uint16_t;
  static constexpr int kChannels = 1, kPixel = 2, kRead = 4;
  static uint64_t load(const uint8_t* p) {
    uint32_t word;
    __builtin_memcpy(&word, p, 4);
    return word;
  }
  static Floats left(Words low, Words, int) { return to_floats(Ints(low & 65535u)); }
  static Floats right(Words low, Words, int) { return to_floats(Ints(low >> 16)); }
};

struct Singles {
  using Element = float;
  static constexpr int kChannels = 1, kPixel = 4, kRead = 8;
  static uint64_t load(const uint8_t* p) {
    uint64_t word;
    __builtin_memcpy(&word, p, 8);
    return word;
  }
  static Floats left(Words low, Words, int) { return Floats(low); }
  static Floats right(Words, Words high, int) { return Floats(high); }
};

// The constants of a row of output pixels.
struct Row {
  const uint8_t* image;
  float x_along, x_start, y_along, y_start;
  float mean, scale, fill;
  int width, height, pitch;       // of the source; pitch in bytes
  int inner_columns, inner_rows;  // top left neighbours in [0, inner) need no bounds checks
  int last;                       // greatest offset at which a word may be read
};

// One vector of output pixels, between the three passes over a span.
struct Place {
  Floats fx, fy;
  Ints top;          // byte offsets of the upper words; the lower ones are a row further if `inner`
  Ints bottom, x, y; // set if not `inner`: byte offsets of the lower words, top left neighbours
  bool inner;
};

struct Fetched {
  uint64_t top[kLanes], bottom[kLanes];
};

// Whole and fractional source coordinate, as math::warp_split.
inline __attribute__((always_inline)) void split(Floats x, int size, Ints& whole, Floats& part) {
  Floats bounded = x > floats(-2.f) ? x : floats(-2.f);
  bounded = bounded < floats(static_cast<float>(size)) ? bounded : floats(static_cast<float>(size));
  whole = __builtin_convertvector(bounded, Ints);
  whole += to_floats(whole) > bounded;
  part = (bounded - to_floats(whole)) + (x - x);
}

inline __attribute__((always_inline)) Ints clamp(Ints x, int low, int high) {
  x = x < ints(low) ? ints(low) : x;
  return x > ints(high) ? ints(high) : x;
}

// First pass: where to read.
template <class Pair>
inline void locate(const Row& row, float first_centred, int vectors, Place* places) {
  Floats lane;
  for (int k = 0; k < kLanes; ++k) lane[k] = static_cast<float>(k);
  for (int v = 0; v < vectors; ++v) {
    Place& p = places[v];
    const Floats column = lane + (first_centred + static_cast<float>(v * kLanes));
    const Floats at_x = column * row.x_along + row.x_start, at_y = column * row.y_along + row.y_start;
    const Floats whole_x = floor_(at_x), whole_y = floor_(at_y);
    // Out of range or not finite, the conversion gives the smallest integer, which is not inner.
    Ints x = __builtin_convertvector(whole_x, Ints), y = __builtin_convertvector(whole_y, Ints);
    p.inner = all_below(x, row.inner_columns, y, row.inner_rows);
    if (p.inner) [[likely]] {
      p.fx = at_x - whole_x;
      p.fy = at_y - whole_y;
      p.top = y * row.pitch + x * Pair::kPixel;
      continue;
    }
    split(at_x, row.width, x, p.fx);
    split(at_y, row.height, y, p.fy);
    p.x = x;
    p.y = y;
    // At the border: the nearest words inside the image, at most the last one.
    const Ints column_bytes = clamp(x, 0, row.width - 2) * Pair::kPixel;
    const Ints top = clamp(y, 0, row.height - 1) * row.pitch + column_bytes;
    const Ints bottom = clamp(y + 1, 0, row.height - 1) * row.pitch + column_bytes;
    p.top = top > ints(row.last) ? ints(row.last) : top;
    p.bottom = bottom > ints(row.last) ? ints(row.last) : bottom;
  }
}

// Keeps a word in a general register; GCC would otherwise gather the words through mask registers.
inline __attribute__((always_inline)) uint64_t scalar(uint64_t word) {
  __asm__("" : "+r"(word));
  return word;
}

// Second pass: scalar loads, which took half the time of hardware gathers on Zen 4.
template <class Pair>
inline void fetch(const Row& row, int vectors, const Place* places, Fetched* fetched) {
  for (int v = 0; v < vectors; ++v) {
    alignas(64) int32_t top[kLanes], bottom[kLanes];
    __builtin_memcpy(top, &places[v].top, sizeof top);
    if (places[v].inner) [[likely]] {
      const uint8_t* below = row.image + row.pitch;
#pragma GCC unroll 16
      for (int k = 0; k < kLanes; ++k) {
        fetched[v].top[k] = scalar(Pair::load(row.image + top[k]));
        fetched[v].bottom[k] = scalar(Pair::load(below + top[k]));
      }
      continue;
    }
    __builtin_memcpy(bottom, &places[v].bottom, sizeof bottom);
    for (int k = 0; k < kLanes; ++k) {
      fetched[v].top[k] = scalar(Pair::load(row.image + top[k]));
      fetched[v].bottom[k] = scalar(Pair::load(row.image + bottom[k]));
    }
  }
}

// Words split into their halves.
inline __attribute__((always_inline)) void halves(const uint64_t* words, Words& low, Words& high) {
  Words first, second;
  __builtin_memcpy(&first, words, sizeof first);
  __builtin_memcpy(&second, words + kLanes / 2, sizeof second);
#if defined(__AVX512F__)
  low = __builtin_shufflevector(first, second, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  high = __builtin_shufflevector(first, second, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif defined(__AVX2__)
  low = __builtin_shufflevector(first, second, 0, 2, 4, 6, 8, 10, 12, 14);
  high = __builtin_shufflevector(first, second, 1, 3, 5, 7, 9, 11, 13, 15);
#else
  low = __builtin_shufflevector(first, second, 0, 2, 4, 6);
  high = __builtin_shufflevector(first, second, 1, 3, 5, 7);
#endif
}

// Shifts a word that was read two bytes early, at the end of the image.
template <class Pair>
inline __attribute__((always_inline)) void put_right(const Row& row, Ints wanted, Words& low, Words& high) {
  if constexpr (Pair::kRead > 2 * Pair::kPixel) {
    static_assert(Pair::kRead - 2 * Pair::kPixel == 2, "moves by 16 bits");
    const Ints over = wanted > ints(row.last);
    low = over ? (low >> 16) | (high << 16) : low;
    high = over ? high >> 16 : high;
  }
}

template <bool kNearest>
inline __attribute__((always_inline)) Floats combine(Floats a, Floats b, Floats c, Floats d, Floats fx, Floats fy) {
  return kNearest ? math::nearest_hole(a, b, c, d, fx, fy) : math::blend(a, b, c, d, fx, fy);
}

// Third pass, of one vector: `kInner` where all its neighbours are inside the image.
template <class Pair, bool kNearest, bool kInner>
inline __attribute__((always_inline)) void finish(const Row& row, const Place& p, const Fetched& fetched,
                                                  float* const* out, int64_t at) {
  Words top_low, top_high, bottom_low, bottom_high;
  halves(fetched.top, top_low, top_high);
  halves(fetched.bottom, bottom_low, bottom_high);
  const Ints x = p.x, y = p.y;
  const Ints read = clamp(x, 0, row.width - 2);
  if constexpr (!kInner) {
    const Ints column = read * Pair::kPixel;
    put_right<Pair>(row, clamp(y, 0, row.height - 1) * row.pitch + column, top_low, top_high);
    put_right<Pair>(row, clamp(y + 1, 0, row.height - 1) * row.pitch + column, bottom_low, bottom_high);
  }
#pragma GCC unroll 3
  for (int c = 0; c < Pair::kChannels; ++c) {
    Floats tl = Pair::left(top_low, top_high, c), tr = Pair::right(top_low, top_high, c);
    Floats bl = Pair::left(bottom_low, bottom_high, c), br = Pair::right(bottom_low, bottom_high, c);
    if constexpr (!kInner) {
      const Ints left = (x >= 0) & (x < row.width), right = (x >= -1) & (x < row.width - 1);
      const Ints top = (y >= 0) & (y < row.height), bottom = (y >= -1) & (y < row.height - 1);
      const Ints from_right = x > read, from_left = x < read;  // the image's edge runs between the two pixels
      const Floats fill = floats(row.fill), tl_read = tl, bl_read = bl;
      tl = (left & top) ? (from_right ? tr : tl) : fill;
      tr = (right & top) ? (from_left ? tl_read : tr) : fill;
      bl = (left & bottom) ? (from_right ? br : bl) : fill;
      br = (right & bottom) ? (from_left ? bl_read : br) : fill;
    }
    const Floats seen = (combine<kNearest>(tl, tr, bl, br, p.fx, p.fy) - row.mean) * row.scale;
    __builtin_memcpy(out[c] + at, &seen, sizeof seen);
  }
}

// The values of output pixels [0, count) of a span, `count` rounded up to whole vectors, to `out[channel]`.
template <class Pair, bool kNearest>
void vector_span(const Row& row, float first_centred, int count, float* const* out) {
  Place places[kSpan / kLanes];
  alignas(64) Fetched fetched[kSpan / kLanes];
  const int vectors = (count + kLanes - 1) / kLanes;
  locate<Pair>(row, first_centred, vectors, places);
  fetch<Pair>(row, vectors, places, fetched);
  for (int v = 0; v < vectors; ++v) {
    if (places[v].inner) [[likely]]
      finish<Pair, kNearest, true>(row, places[v], fetched[v], out, v * kLanes);
    else
      finish<Pair, kNearest, false>(row, places[v], fetched[v], out, v * kLanes);
  }
}

}  // namespace
}  // namespace CVHPE_LEVEL
}  // namespace cvhpe
