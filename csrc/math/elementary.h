// Branch-free exp, log, sine and cosine: additions and multiplications only, so that they vectorise as plain loops and
// give the same bits on every CPU level and on the GPU.
#pragma once
#include "math/hd.h"

CVHPE_MATH_BEGIN

// e^y = p * 2^k with k the integer nearest to y / ln 2; `shifted` ends up as k + 1.5 * 2^23. Even and odd powers
// are summed side by side, which halves the latency.
CVHPE_HD float exp_parts(float y, float& shifted) {
  const float log2_e = 1.44269504f, ln2_high = 0.693145752f, ln2_low = 1.42860677e-6f;
  const float to_integer = 12582912.f;  // 1.5 * 2^23: adding it rounds to the nearest integer
  shifted = y * log2_e + to_integer;
  const float k = shifted - to_integer;
  const float r = (y - k * ln2_high) - k * ln2_low, rr = r * r;  // |r| <= ln(2) / 2
  return 1.f + (r + rr * ((0.499999934f + r * 1.66665204e-1f) +
                          rr * ((4.16683908e-2f + r * 8.36874511e-3f) + rr * 1.381454e-3f)));
}

// e^x to within 2 ulp; 0 and infinity where float32 under- and overflows, NaN for NaN.
CVHPE_HD float exp_(float x) {
  float y = x > 89.f ? 89.f : x, shifted;
  y = y < -104.f ? -104.f : y;
  const float p = exp_parts(y, shifted);
  const int32_t exponent = static_cast<int32_t>(bits_of(shifted) - 0x4b400000u);
  const int32_t half = exponent >> 1;  // in two factors: 2^exponent alone need not be a normal number
  const float a = float_of(static_cast<uint32_t>(half + 127) << 23);
  const float b = float_of(static_cast<uint32_t>(exponent - half + 127) << 23);
  return p * a * b;
}

// The same bits for |x| <= 86, where the result is a normal number and 2^k goes straight into its exponent.
CVHPE_HD float exp_normal(float x) {
  float shifted;
  const float p = exp_parts(x, shifted);
  return float_of(bits_of(p) + (bits_of(shifted) << 23));
}

// -2 ln(n / 2^24) for n = 1 .. 2^24.
CVHPE_HD float minus_two_log24(int32_t n) {
  const float x = static_cast<float>(n), one = 16777216.f;
  const uint32_t u = bits_of(x);
  const int32_t k = static_cast<int32_t>(u - 0x4b3504f3u) >> 23;  // x = 2^k m, m / 2^24 in [sqrt(1/2), sqrt(2))
  const float m = float_of(u - (static_cast<uint32_t>(k) << 23));
  const float s = (m - one) / (m + one), z = s * s;  // ln(m / 2^24) = 2 artanh s
  return static_cast<float>(k) * -1.38629436f +
         s * (-4.f + z * (-1.33333553f + z * (-7.99550372e-1f + z * -5.97448011e-1f)));
}

// Sine and cosine of t in [-pi/4, pi/4].
CVHPE_HD void sincos_eighth(float t, float& sine, float& cosine) {
  const float y = t * t;
  sine = t + t * y * (-1.66666549e-1f + y * (8.332177e-3f + y * -1.95171382e-4f));
  cosine = 1.f + y * (-0.5f + y * (4.16666468e-2f + y * (-1.38873660e-3f + y * 2.44382713e-5f)));
}

// Sine and cosine in radians, for |angle| up to some thousands (CUDA's need a stack frame for any angle).
CVHPE_HD void sincos_(float angle, float& sine, float& cosine) {
  const float to_integer = 12582912.f;
  const float shifted = angle * 0.636619747f + to_integer, k = shifted - to_integer;
  const float t = ((angle - k * 1.5703125f) - k * 4.83751297e-4f) - k * 7.54978971e-8f;  // minus k pi / 2
  const uint32_t quadrant = bits_of(shifted) & 3u;
  float s, c;
  sincos_eighth(t, s, c);
  const float a = (quadrant & 1u) ? c : s, b = (quadrant & 1u) ? s : c;
  sine = (quadrant & 2u) ? -a : a;
  cosine = ((quadrant + 1u) & 2u) ? -b : b;
}

// Sine and cosine to double precision for |angle| below 10^6; NaN where the angle is not finite. CUDA's own
// needs a stack frame for its reduction of huge angles.
CVHPE_HD void sincos_(double angle, double& sine, double& cosine) {
  const double to_integer = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to the nearest integer
  const double quarter_turns = (angle * 0.63661977236758134308 + to_integer) - to_integer;
  // pi / 2 in three pieces; the products with the first two are exact.
  double r = angle - quarter_turns * 1.57079632673412561417e+00;
  r = (r - quarter_turns * 6.07710050630396597660e-11) - quarter_turns * 2.02226624879595063154e-21;
  const double y = r * r;
  const double s = r + r * y * (-1. / 6 + y * (1. / 120 + y * (-1. / 5040 + y * (1. / 362880 + y * (-1. / 39916800 +
                   y * (1. / 6227020800 + y * (-1. / 1307674368000)))))));
  const double c = 1 + y * (-1. / 2 + y * (1. / 24 + y * (-1. / 720 + y * (1. / 40320 + y * (-1. / 3628800 +
                   y * (1. / 479001600 + y * (-1. / 87178291200 + y * (1. / 20922789888000))))))));
  const double wrapped = quarter_turns - 4 * ((quarter_turns * 0.25 + to_integer) - to_integer);  // -2, -1, 0, 1 or 2
  const bool odd = wrapped == 1 || wrapped == -1;
  sine = odd ? c : s;
  cosine = odd ? s : c;
  if (wrapped == 2 || wrapped == -2 || wrapped == -1) sine = -sine;
  if (wrapped == 2 || wrapped == -2 || wrapped == 1) cosine = -cosine;
}

// A point of the unit circle for every word, uniformly distributed: the lower 30 bits are an angle in [-pi/4, pi/4),
// bit 31 reflects the point in the y axis, then bit 30 in the diagonal.
CVHPE_HD void on_circle(uint32_t word, float& x, float& y) {
  const float t = static_cast<float>(static_cast<int32_t>(word << 2)) * 3.65729530e-10f;  // pi / 2^33
  float sine, cosine;
  sincos_eighth(t, sine, cosine);
  cosine = float_of(bits_of(cosine) ^ (word & 0x80000000u));
  const bool swap = (word & 0x40000000u) != 0;
  x = swap ? sine : cosine;
  y = swap ? cosine : sine;
}

// 1 / x to within 2 ulp, by Newton's iteration from an estimate out of the bits; for normal x (NaN gives NaN).
// A division is a subroutine call on the GPU, around which the compiler spills registers.
CVHPE_HD float reciprocal(float x) {
  float y = float_of((bits_of(x) & 0x80000000u) | (0x7ef311c7u - (bits_of(x) & 0x7fffffffu)));
  for (int i = 0; i < 4; ++i) y = y + y * (1.f - x * y);
  return y;
}
CVHPE_HD double reciprocal(double x) {
  double y = static_cast<double>(reciprocal(static_cast<float>(x)));
  for (int i = 0; i < 2; ++i) y = y + y * (1.0 - x * y);
  return y;
}

CVHPE_MATH_END
