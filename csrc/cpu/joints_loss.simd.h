#pragma once
#include <cstdint>

#include "cpu/level.h"
#include "math/joints.h"

namespace cvhpe {

// Entries by width - 2. The losses of samples [begin, end) go to `out`, the gradients times grad_scale to loss.grad. A
// sample that `mask` (may be null) leaves out has loss and gradient 0, whatever its values are.
struct JointsLossTable {
  void (*rows[2])(const JointsLoss& loss, int64_t begin, int64_t end, const bool* mask, double grad_scale, float* out);
};

}  // namespace cvhpe

CVHPE_DECLARE_LEVELS(JointsLossTable, joints_loss_table)
