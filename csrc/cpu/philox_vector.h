// Philox on vectors: the same words as math::philox, several counters at a time.
//
// A word is the low half of a 64-bit lane. The widening multiply reads only low halves, so the high ones may hold
// anything, and a round takes two multiplications, two shifts and four xors. Even and odd counters are in separate
// vectors; a shift and a blend interleave them at the end.
#pragma once
#include "math/noise.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cvhpe {
namespace CVHPE_LEVEL {

#if defined(__AVX512F__)
struct Lanes {
  using V = __m512i;
  static constexpr int count = 8, together = 4;
  static V all(uint64_t x) { return _mm512_set1_epi64(static_cast<int64_t>(x)); }
  static V even(uint64_t first) {
    return _mm512_add_epi64(_mm512_set1_epi64(static_cast<int64_t>(first)),
                            _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0));
  }
  static V multiply(V a, V b) { return _mm512_mul_epu32(a, b); }
  static V high(V a) { return _mm512_srli_epi64(a, 32); }
  static V exclusive_or(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
  static void store(V even, V odd, uint32_t* out) {
    _mm512_storeu_si512(out, _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32)));
  }
};
#elif defined(__AVX2__)
struct Lanes {
  using V = __m256i;
  static constexpr int count = 4, together = 2;
  static V all(uint64_t x) { return _mm256_set1_epi64x(static_cast<int64_t>(x)); }
  static V even(uint64_t first) {
    return _mm256_add_epi64(_mm256_set1_epi64x(static_cast<int64_t>(first)), _mm256_set_epi64x(6, 4, 2, 0));
  }
  static V multiply(V a, V b) { return _mm256_mul_epu32(a, b); }
  static V high(V a) { return _mm256_srli_epi64(a, 32); }
  static V exclusive_or(V a, V b, V c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
  static void store(V even, V odd, uint32_t* out) {
    _mm256_storeu_si256(reinterpret_cast<V*>(out), _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA));
  }
};
#elif defined(__x86_64__)
struct Lanes {
  using V = __m128i;
  static constexpr int count = 2, together = 2;
  static V all(uint64_t x) { return _mm_set1_epi64x(static_cast<int64_t>(x)); }
  static V even(uint64_t first) {
    return _mm_add_epi64(_mm_set1_epi64x(static_cast<int64_t>(first)), _mm_set_epi64x(2, 0));
  }
  static V multiply(V a, V b) { return _mm_mul_epu32(a, b); }
  static V high(V a) { return _mm_srli_epi64(a, 32); }
  static V exclusive_or(V a, V b, V c) { return _mm_xor_si128(_mm_xor_si128(a, b), c); }
  static void store(V even, V odd, uint32_t* out) {
    const V low = _mm_and_si128(even, _mm_set1_epi64x(0xffffffff));
    _mm_storeu_si128(reinterpret_cast<V*>(out), _mm_or_si128(low, _mm_slli_epi64(odd, 32)));
  }
};
#endif

// The keys of the ten rounds, computed once a call; a broadcast load puts each into every lane.
struct RoundKeys {
  uint64_t key, first[10], second[10];
  explicit RoundKeys(uint64_t seed) : key(seed) {
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
      first[round] = k0;
      second[round] = k1;
    }
  }
};

// Words of the 16 counters of each of the groups [group, group + groups): word w of counter j to out[16 w + j], a group
// after the other.
inline void philox_groups(uint64_t group, int groups, const RoundKeys& keys, uint32_t* out) {
#if defined(__x86_64__)
  using V = Lanes::V;
  constexpr int kVectors = Lanes::together;  // vector 2 i holds even counters, 2 i + 1 the odd ones after them
  const V multiplier0 = Lanes::all(0xD2511F53u), multiplier1 = Lanes::all(0xCD9E8D57u);
  for (int first = 0; first < 16 * groups; first += kVectors * Lanes::count) {
    V c0[kVectors], c1[kVectors], c2[kVectors], c3[kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      const uint64_t counter = 16 * group + static_cast<uint64_t>(first + (i / 2) * 2 * Lanes::count + i % 2);
      c0[i] = Lanes::even(counter);  // its high half is ignored
      c1[i] = Lanes::all(counter >> 32);
      c2[i] = c3[i] = Lanes::all(0);
    }
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      const V key0 = Lanes::all(keys.first[round]), key1 = Lanes::all(keys.second[round]);
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) {
        const V product0 = Lanes::multiply(c0[i], multiplier0), product1 = Lanes::multiply(c2[i], multiplier1);
        c0[i] = Lanes::exclusive_or(Lanes::high(product1), c1[i], key0);
        c2[i] = Lanes::exclusive_or(Lanes::high(product0), c3[i], key1);
        c1[i] = product1;
        c3[i] = product0;
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; i += 2) {
      const int counter = first + i * Lanes::count;
      uint32_t* to = out + counter / 16 * math::kNoiseGroup + counter % 16;
      Lanes::store(c0[i], c0[i + 1], to);
      Lanes::store(c1[i], c1[i + 1], to + 16);
      Lanes::store(c2[i], c2[i + 1], to + 32);
      Lanes::store(c3[i], c3[i + 1], to + 48);
    }
  }
#else
  for (int g = 0; g < groups; ++g, ++group, out += math::kNoiseGroup)
    for (int j = 0; j < 16; ++j) {
      const uint64_t counter = 16 * group + static_cast<uint64_t>(j);
      const math::Words r =
          math::philox(static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), keys.key);
      for (int w = 0; w < 4; ++w) out[16 * w + j] = r.v[w];
    }
#endif
}

// The noise of whole groups of 64 elements (math::normal_at of each).
inline void normal_groups(uint64_t group, int64_t groups, const RoundKeys& keys, float* out) {
  constexpr int kAtOnce = 2;
  alignas(64) uint32_t words[kAtOnce * math::kNoiseGroup];
  for (int64_t g = 0; g < groups; g += kAtOnce) {
    const int n = groups - g < kAtOnce ? static_cast<int>(groups - g) : kAtOnce;
    philox_groups(group + static_cast<uint64_t>(g), n, keys, words);
    for (int k = 0; k < 2 * n; ++k, out += 32)
      for (int j = 0; j < 16; ++j) math::box_muller(words[32 * k + j], words[32 * k + 16 + j], out[j], out[16 + j]);
  }
}

}  // namespace CVHPE_LEVEL
}  // namespace cvhpe
