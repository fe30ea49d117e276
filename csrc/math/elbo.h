// The arguments of elbo: one term for each pair of modalities.
#pragma once
#include "math/joints.h"

namespace cvhpe {

constexpr int kMaxTerms = 32;

struct ElboTerm {
  bool is_joints;
  int width;                 // of a joints term: 2 or 3
  JointsLoss joints;         // of a joints term; its losses go to rec
  TypedArray rec, rec_grad;  // [B]; rec_grad of a term given as losses, null where no gradient is wanted
  int kl;                    // index of the input's divergence
  const bool* mask;          // [B] or null: the samples that count
  double weight;
};

struct ElboTask {
  int terms, kls;
  int64_t rows;
  double beta;
  void *total, *values;  // [1]; [2 terms]: means of rec, means of kl
  TypedArray kl[kMaxTerms], kl_grad[kMaxTerms];
  ElboTerm term[kMaxTerms];
};

}  // namespace cvhpe
