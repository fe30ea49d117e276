#pragma once
#include <cstdint>

#include "cpu/level.h"
#include "math/joints.h"

namespace cvhpe {

// Entries by width - 2, then by the type computed in (0 float, 1 double). Losses of samples [begin, end) go to out,
// gradients times grad_scale to loss.grad. A sample that `mask` (may be null) leaves out is not looked at: it has
// loss and gradient 0, whatever is in it.
struct JointsLossTable {
  void (*rows[2][2])(const JointsLoss& loss, int64_t begin, int64_t end, const bool* mask, double grad_scale,
                     void* out);
};

}  // namespace cvhpe

CVHPE_DECLARE_LEVELS(JointsLossTable, joints_loss_table)
