// Standard normal noise that is a function of seed and element index alone, so that it is never stored:
// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) and Box-Muller.
//
// One counter yields four normals. Elements come in groups of 64, sixteen counters to a group: element
// 64 g + 16 w + j is normal w of counter 16 g + j. A vector unit fills a group with contiguous stores, and a GPU
// thread computes the noise of its element alone.
#pragma once
#include "math/elementary.h"
#include "math/hd.h"

CVHPE_MATH_BEGIN

constexpr int kNoiseGroup = 64;

struct Words {
  uint32_t v[4];
};

CVHPE_HD uint32_t multiply_high(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__)
  return __umulhi(a, b);
#else
  return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
#endif
}

// The noise has the counter's low and high word, 0 and 0 as the four counter words.
CVHPE_HD Words philox(uint32_t c0, uint32_t c1, uint64_t key, uint32_t c2 = 0, uint32_t c3 = 0) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
#if defined(__CUDACC__)
#pragma unroll
#else
#pragma GCC unroll 10
#endif
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = multiply_high(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
    const uint32_t high1 = multiply_high(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Two normals out of two words: the radius from 24 bits in (0, 1], the angle from 32 bits.
CVHPE_HD void box_muller(uint32_t a, uint32_t b, float& first, float& second) {
  const float radius = sqrt_(minus_two_log24(static_cast<int32_t>(a >> 8) + 1));
  float x, y;
  on_circle(b, x, y);
  first = radius * x;
  second = radius * y;
}

// The noise of one element.
CVHPE_HD float normal_at(uint64_t element, uint64_t key) {
  const uint64_t counter = (element >> 6) * 16 + (element & 15);
  const Words r = philox(static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), key);
  const bool upper = (element & 32) != 0;
  float first, second;
  box_muller(upper ? r.v[2] : r.v[0], upper ? r.v[3] : r.v[1], first, second);
  return (element & 16) != 0 ? second : first;
}

CVHPE_MATH_END
