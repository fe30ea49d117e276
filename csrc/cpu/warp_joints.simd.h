#pragma once
#include <cstdint>

#include "cpu/level.h"
#include "math/joints.h"

namespace cvhpe {

struct WarpJointsLoop {
  JointsView view;
  TypedArray in, out;  // [rows, joints, width], one type
  int64_t joints;
};

// Entries by width - 2, then by number type. A call computes samples [begin, end).
struct WarpJointsTable {
  void (*forward[2][3])(const WarpJointsLoop&, int64_t begin, int64_t end);
  void (*backward[2][3])(const WarpJointsLoop&, int64_t begin, int64_t end);
};

}  // namespace cvhpe

CVHPE_DECLARE_LEVELS(WarpJointsTable, warp_joints_table)
