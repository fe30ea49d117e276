// The step's loss after the decoders, as the kernels take it: one term a pair of modalities.
#pragma once
#include "math/joints.h"

namespace cvhpe {

constexpr int kMaxTerms = 32;

struct ElboTerm {
  bool is_joints;
  int width;         // 2 or 3, of a joints term
  JointsLoss joints; // a joints term: computed here; its losses go to rec
  Any rec, rec_grad; // [B]; rec_grad is of a term that is given as losses, null where no gradient is wanted
  int kl;            // which of the divergences belongs to the input
  const bool* mask;  // [B] or null: the samples that count
  double weight;
};

struct Elbo {
  int terms, kls;
  int64_t rows;
  double beta;
  void *total, *values;  // [1]; [2 terms]: means of rec, means of kl
  Any kl[kMaxTerms], kl_grad[kMaxTerms];
  ElboTerm term[kMaxTerms];
};

}  // namespace cvhpe
