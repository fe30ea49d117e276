// Host side of joints_loss, shared by CPU and CUDA: checks the arguments, converts them to pointers, keeps them alive.
#pragma once
#include "ops/joints.h"

namespace cvhpe {

struct JointsLossTensors {
  Tensor pred, target;
  MaybeTensor weight;
  ViewTensors view;
  JointsLoss loss;
};

inline JointsLossTensors joints_loss_tensors(const Tensor& pred, const Tensor& target, const MaybeTensor& weight,
                                             const ViewTensors& view, bool skip_nan) {
  check_joints("joints_loss", "pred", pred);
  bool same = target.dim() == 3;
  for (int64_t d = 0; same && d < 3; ++d) same = target.size(d) == pred.size(d);
  check(same, "joints_loss: target: shape ", shape_of(target), ", expected that of pred, ", shape_of(pred));
  check(same_device(target, pred), "joints_loss: target: on another device than pred");
  if (weight) {
    check(weight->dim() == 2 && weight->size(0) == pred.size(0) && weight->size(1) == pred.size(1) &&
              weight->scalar_type() == ScalarType::Float,
          "joints_loss: weight: shape ", shape_of(*weight), ", expected float32 [", pred.size(0), ", ", pred.size(1),
          "]");
    check(same_device(*weight, pred), "joints_loss: weight: on another device than pred");
  }
  JointsLossTensors in{dense(pred), dense(target), dense(weight), view, {}};
  in.loss.view = in.view.pointers();
  in.loss.pred = typed_array(in.pred, "joints_loss: pred");
  in.loss.target = typed_array(in.target, "joints_loss: target");
  in.loss.weight = in.weight ? static_cast<const float*>(data(*in.weight)) : nullptr;
  in.loss.joints = pred.size(1);
  in.loss.skip_nan = skip_nan;
  return in;
}

// The gradient of the prediction, still to be written; an empty tensor where none is wanted.
inline Tensor joints_loss_gradient(JointsLossTensors& in, bool wanted) {
  if (!wanted) return empty({0}, in.pred.scalar_type(), in.pred);
  Tensor grad = empty({in.pred.size(0), in.pred.size(1), in.pred.size(2)}, in.pred.scalar_type(), in.pred);
  in.loss.grad = typed_array(grad, "joints_loss: pred");
  return grad;
}

}  // namespace cvhpe
