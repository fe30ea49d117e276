// The loops of sample_kl as csrc/autograd calls them for plain tensors: past the dispatcher and the boxes of the stable
// ABI, which cost a small batch more than its arithmetic. Two libraries of one build share this, hence a plain struct.
#pragma once
#include "cpu/sample_kl.simd.h"

namespace cvhpe {

// Rows are divided among torch's threads. type: of the numbers, as in SampleKlTable.
struct SampleKlCpu {
  void (*forward)(const SampleKlLoop&, int type);
  void (*backward)(const SampleKlLoop&, int type);
};

}  // namespace cvhpe
