// A diagonal Gaussian posterior N(mu, exp(logvar)) against N(0, 1): the sample, its KL divergence, their gradients.
#pragma once
#include "math/elementary.h"
#include "math/hd.h"

CVHPE_MATH_BEGIN

CVHPE_HD float gauss_sigma(float logvar) {
  return exp_(0.5f * logvar);
}

CVHPE_HD float gauss_sample(float mu, float sigma, float noise) {
  return mu + sigma * noise;
}

// Twice the KL divergence of one dimension: mu^2 + sigma^2 - 1 - logvar. The half is taken of the sum.
CVHPE_HD float gauss_kl_twice(float mu, float logvar, float sigma) {
  return (mu * mu + sigma * sigma) - (1.f + logvar);
}

// Gradients of the sample part: dz/dmu = 1, dz/dlogvar = noise sigma / 2; of the KL part: mu, (sigma^2 - 1) / 2.
CVHPE_HD void gauss_backward(float mu, float sigma, float grad_z, float noise, float grad_kl, float& grad_mu,
                             float& grad_logvar) {
  grad_mu = grad_z + grad_kl * mu;
  grad_logvar = 0.5f * (grad_z * noise * sigma + grad_kl * (sigma * sigma - 1.f));
}

CVHPE_MATH_END
