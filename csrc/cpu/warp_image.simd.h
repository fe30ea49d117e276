#pragma once
#include <cstdint>

#include "cpu/level.h"
#include "math/warp_image.h"

namespace cvhpe {

// Entries by source type (WarpSource). A call computes output rows [begin, end) of batch * h.
struct WarpImageTable {
  void (*rows[3])(const WarpImageJob&, int64_t begin, int64_t end);
};

}  // namespace cvhpe

CVHPE_DECLARE_LEVELS(WarpImageTable, warp_image_table)
