// Host side of the joint operators, shared by CPU and CUDA: checks the arguments and converts them to pointers.
#pragma once
#include "math/joints.h"
#include "torch_util.h"

namespace cvhpe {

inline TypedArray typed_array(const Tensor& t, const char* what) {
  return {const_cast<void*>(data(t)), static_cast<NumberType>(type_index(t.scalar_type(), what))};
}

// The contiguous tensors of a view, alive while the kernel reads them.
struct ViewTensors {
  MaybeTensor angle, scale, shift, flip, root_shift_weight;
  int64_t root, root_shift_joint;
  bool relative;

  JointsView pointers() const {
    JointsView v{};
    if (angle) {
      v.angle = static_cast<const float*>(data(*angle));
      v.scale = static_cast<const float*>(data(*scale));
      v.shift = static_cast<const float*>(data(*shift));
      v.flip = static_cast<const bool*>(data(*flip));
    }
    v.root_shift_weight = root_shift_weight ? static_cast<const float*>(data(*root_shift_weight)) : nullptr;
    v.root = static_cast<int>(root);
    v.root_shift_joint = static_cast<int>(root_shift_joint);
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
                                const MaybeTensor& root_shift_weight, int64_t root, int64_t root_shift_joint,
                                bool relative) {
  check(angle.has_value() == (scale && shift && flip), op, ": angle, scale, shift and flip go together");
  if (angle) {
    check_field(op, "angle", *angle, joints, false, ScalarType::Float);
    check_field(op, "scale", *scale, joints, false, ScalarType::Float);
    check_field(op, "shift", *shift, joints, true, ScalarType::Float);
    check_field(op, "flip", *flip, joints, false, ScalarType::Bool);
  }
  if (root_shift_weight) check_field(op, "root_shift_weight", *root_shift_weight, joints, false, ScalarType::Float);
  if (root_shift_weight || relative) {
    const int64_t count = joints.size(1);
    check(root >= 0 && root < count && root_shift_joint >= 0 && root_shift_joint < count, op,
          ": palm: joints ", root, " and ", root_shift_joint, ", expected two of 0 .. ", count - 1);
  }
  return {dense(angle), dense(scale),     dense(shift), dense(flip), dense(root_shift_weight), root,
          root_shift_joint, relative};
}

}  // namespace cvhpe
