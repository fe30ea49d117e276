#pragma once
#include <cstdint>

#include "cpu/level.h"

namespace cvhpe {

struct SampleKlLoop {
  int64_t rows, columns;
  uint64_t key;
  const void *mu, *logvar;                // [rows, columns]
  void *z, *kl;                           // forward: [rows, columns], [rows] float32
  const void *grad_z, *grad_kl;           // backward, either may be null
  void *grad_mu, *grad_logvar;            // backward: [rows, columns]
};

// Entries by NumberType. A call computes rows [begin, end).
struct SampleKlTable {
  void (*forward[3])(const SampleKlLoop&, int64_t begin, int64_t end);
  void (*backward[3])(const SampleKlLoop&, int64_t begin, int64_t end);
};

}  // namespace cvhpe

CVHPE_DECLARE_LEVELS(SampleKlTable, sample_kl_table)
