// The number types that kernels read and write; they compute in float32. Half and BFloat hold the 16 bits of a
// torch.float16 or torch.bfloat16, so that a kernel needs no header of torch or CUDA for them.
#pragma once
#include "math/hd.h"
#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

namespace cvhpe {
struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};
enum NumberType : int { kFloat, kBFloat, kHalf };

// An array whose type is known only at run time. `data` is null where there is none.
struct TypedArray {
  void* data;
  NumberType type;
};
}  // namespace cvhpe

CVHPE_MATH_BEGIN

CVHPE_HD float widen(float x) { return x; }
CVHPE_HD float widen(BFloat x) { return float_of(static_cast<uint32_t>(x.bits) << 16); }
CVHPE_HD float widen(Half x) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(x.bits));
#else
  // Shift the exponent into place and multiply: 2^112 sets the bias right, subnormals included.
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16, body = static_cast<uint32_t>(x.bits & 0x7fffu)
                                                                              << 13;
  const float finite = float_of(body) * 5.19229686e33f;
  const uint32_t special = 0x7f800000u | body;  // infinity and NaN keep their all-ones exponent
  return float_of(sign | (body >= 0x0f800000u ? special : bits_of(finite)));
#endif
}

// To the nearest, ties to even, as torch rounds.
template <class T>
CVHPE_HD T narrow(float x);
template <>
CVHPE_HD float narrow<float>(float x) {
  return x;
}
template <>
CVHPE_HD BFloat narrow<BFloat>(float x) {
  const uint32_t b = bits_of(x);
  const uint32_t rounded = (b + 0x7fffu + ((b >> 16) & 1u)) >> 16;
  return {static_cast<uint16_t>(x != x ? 0x7fc0u : rounded)};
}
template <>
CVHPE_HD Half narrow<Half>(float x) {
#if defined(__CUDA_ARCH__)
  return {__half_as_ushort(__float2half_rn(x))};
#else
  const uint32_t b = bits_of(x), sign = (b >> 16) & 0x8000u, body = b & 0x7fffffffu;
  const uint32_t normal = (body - 0x38000000u + 0xfffu + ((body >> 13) & 1u)) >> 13;
  // Below 2^-14, adding 1/2 lines the mantissa up with the unit of a subnormal half.
  const uint32_t small = bits_of(float_of(body) + 0.5f) - 0x3f000000u;
  uint32_t h = body < 0x38800000u ? small : normal;
  h = body >= 0x477ff000u ? 0x7c00u : h;   // rounds to infinity
  h = body > 0x7f800000u ? 0x7e00u : h;    // NaN
  return {static_cast<uint16_t>(sign | h)};
#endif
}

// One number of an array of any of the types.
CVHPE_HD float load(TypedArray array, int64_t i) {
  switch (array.type) {
    case kFloat: return static_cast<const float*>(array.data)[i];
    case kBFloat: return widen(static_cast<const BFloat*>(array.data)[i]);
    default: return widen(static_cast<const Half*>(array.data)[i]);
  }
}

CVHPE_HD void store(TypedArray array, int64_t i, float x) {
  switch (array.type) {
    case kFloat: static_cast<float*>(array.data)[i] = x; return;
    case kBFloat: static_cast<BFloat*>(array.data)[i] = narrow<BFloat>(x); return;
    default: static_cast<Half*>(array.data)[i] = narrow<Half>(x); return;
  }
}

CVHPE_MATH_END
