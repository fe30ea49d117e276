// The host-and-device marker, bit casts, and the namespace of the level.
//
// The same header is compiled for several CPU instruction sets and for the GPU. Everything in csrc/math lives in
// cvhpe::math::<level>, so that no two of those compilations share a symbol.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#define CVHPE_HD __host__ __device__ __forceinline__
#else
#define CVHPE_HD inline __attribute__((always_inline))
#endif

#ifndef CVHPE_LEVEL
#define CVHPE_LEVEL generic
#endif

#define CVHPE_MATH_BEGIN    \
  namespace cvhpe {         \
  namespace math {          \
  inline namespace CVHPE_LEVEL {
#define CVHPE_MATH_END \
  }                    \
  }                    \
  }

CVHPE_MATH_BEGIN

CVHPE_HD uint32_t bits_of(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(x);
#else
  return __builtin_bit_cast(uint32_t, x);
#endif
}

CVHPE_HD float float_of(uint32_t b) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(b);
#else
  return __builtin_bit_cast(float, b);
#endif
}

CVHPE_HD float sqrt_(float x) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(x);
#else
  return __builtin_sqrtf(x);
#endif
}

CVHPE_MATH_END
