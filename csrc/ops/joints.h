// Host side of the joint operators, shared by CPU and CUDA: the arguments checked and turned into plain pointers.
#pragma once
#include "math/joints.h"
#include "torch_util.h"

namespace cvhpe {

using MaybeTensor = std::optional<Tensor>;

inline Any any_of(const Tensor& t, const char* what) {
  return {const_cast<void*>(data(t)), static_cast<NumberType>(type_index(t.scalar_type(), what))};
}

inline MaybeTensor dense(const MaybeTensor& t) { return t ? MaybeTensor(dense(*t)) : MaybeTensor(); }

// A view's tensors, dense, for as long as the kernel may read them.
struct ViewTensors {
  MaybeTensor angle, scale, shift, flip, palm;
  int64_t root, toward;
  bool relative;

  JointsView pointers() const {
    JointsView v{};
    if (angle) {
      v.angle = static_cast<const float*>(data(*angle));
      v.scale = static_cast<const float*>(data(*scale));
      v.shift = static_cast<const float*>(data(*shift));
      v.flip = static_cast<const bool*>(data(*flip));
    }
    v.palm = palm ? static_cast<const float*>(data(*palm)) : nullptr;
    v.root = static_cast<int>(root);
    v.toward = static_cast<int>(toward);
    v.relative = relative;
    return v;
  }
};

inline void check_field(const char* op, const char* name, const Tensor& field, const Tensor& joints, bool pair,
                        ScalarType type) {
  const int64_t rows = joints.size(0);
  const bool fits = pair ? field.dim() == 2 && field.size(0) == rows && field.size(1) == 2
                         : field.dim() == 1 && field.size(0) == rows;
  check(fits, op, ": ", name, ": shape ", shape_of(field), ", expected [", rows, pair ? ", 2]" : "]");
  check(field.scalar_type() == type, op, ": ", name, ": expected ", type == ScalarType::Bool ? "bool" : "float32");
  check(same_device(field, joints), op, ": ", name, ": on another device than the joints");
}

inline void check_joints(const char* op, const char* name, const Tensor& joints) {
  check(joints.dim() == 3 && (joints.size(2) == 2 || joints.size(2) == 3), op, ": ", name, ": shape ",
        shape_of(joints), ", expected [B, J, 2] or [B, J, 3]");
}

inline ViewTensors view_tensors(const char* op, const Tensor& joints, const MaybeTensor& angle,
                                const MaybeTensor& scale, const MaybeTensor& shift, const MaybeTensor& flip,
                                const MaybeTensor& palm, int64_t root, int64_t toward, bool relative) {
  check(angle.has_value() == (scale && shift && flip), op, ": angle, scale, shift and flip go together");
  if (angle) {
    check_field(op, "angle", *angle, joints, false, ScalarType::Float);
    check_field(op, "scale", *scale, joints, false, ScalarType::Float);
    check_field(op, "shift", *shift, joints, true, ScalarType::Float);
    check_field(op, "flip", *flip, joints, false, ScalarType::Bool);
  }
  if (palm) check_field(op, "palm", *palm, joints, false, ScalarType::Float);
  if (palm || relative) {
    const int64_t count = joints.size(1);
    check(root >= 0 && root < count && toward >= 0 && toward < count, op, ": palm: joints ", root, " and ", toward,
          ", expected two of 0 .. ", count - 1);
  }
  return {dense(angle), dense(scale), dense(shift), dense(flip), dense(palm), root, toward, relative};
}

}  // namespace cvhpe
