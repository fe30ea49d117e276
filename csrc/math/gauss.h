// A diagonal Gaussian posterior N(mu, exp(logvar)) against N(0, 1): the sample, its KL divergence, their gradients.
#pragma once
#include "math/elementary.h"
#include "math/hd.h"

CVHPE_MATH_BEGIN

template <class W>
CVHPE_HD W gauss_sigma(W logvar) {
  return exp_(W(0.5) * logvar);
}

template <class W>
CVHPE_HD W gauss_sample(W mu, W sigma, W noise) {
  return mu + sigma * noise;
}

// Twice the KL divergence of one dimension: mu^2 + sigma^2 - 1 - logvar. The half is taken of the sum.
template <class W>
CVHPE_HD W gauss_kl_twice(W mu, W logvar, W sigma) {
  return (mu * mu + sigma * sigma) - (W(1) + logvar);
}

// Gradients of the sample part: dz/dmu = 1, dz/dlogvar = noise sigma / 2; of the KL part: mu, (sigma^2 - 1) / 2.
// `grad_z` and `grad_z_noise` are the sums over the samples of grad_z and of grad_z * noise.
template <class W>
CVHPE_HD void gauss_backward(W mu, W sigma, W grad_z, W grad_z_noise, W grad_kl, W& grad_mu, W& grad_logvar) {
  grad_mu = grad_z + grad_kl * mu;
  grad_logvar = W(0.5) * (grad_z_noise * sigma + grad_kl * (sigma * sigma - W(1)));
}

CVHPE_MATH_END
