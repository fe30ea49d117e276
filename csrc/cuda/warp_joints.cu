#include "cuda/warp_joints.cuh"

#include "cuda/launch.h"
#include "ops/joints.h"

namespace {

using namespace cvhpe;

template <class T, int K>
void launch(bool backward, const JointsView& view, const Tensor& in, Tensor& out, cudaStream_t stream) {
  const int64_t rows = in.size(0), joints = in.size(1);
  const T* from = static_cast<const T*>(data(in));
  T* to = static_cast<T*>(data(out));
  if (backward) {
    warp_joints_backward_kernel<T, K>
        <<<blocks(rows, kWarpJointsSamples), kWarpJointsThreads, 0, stream>>>(view, from, to, rows, joints);
  } else {
    warp_joints_kernel<T, K>
        <<<blocks(rows * joints, kWarpJointsThreads), kWarpJointsThreads, 0, stream>>>(view, from, to, rows, joints);
  }
}

Tensor run(bool backward, const Tensor& joints, const MaybeTensor& angle, const MaybeTensor& scale,
           const MaybeTensor& shift, const MaybeTensor& flip, const MaybeTensor& root_shift_weight, int64_t root,
           int64_t root_shift_joint, bool relative) {
  check_joints("warp_joints", backward ? "grad" : "joints", joints);
  const ViewTensors view = view_tensors("warp_joints", joints, angle, scale, shift, flip, root_shift_weight, root,
                                        root_shift_joint, relative);
  const OnDevice on(joints);
  const Tensor in = dense(joints);
  Tensor out = empty({joints.size(0), joints.size(1), joints.size(2)}, joints.scalar_type(), joints);
  dispatch(joints.scalar_type(), "warp_joints: joints", [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (joints.numel() == 0) return;
    const auto go = joints.size(2) == 2 ? launch<T, 2> : launch<T, 3>;
    go(backward, view.pointers(), in, out, on.stream);
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

Tensor warp_joints(const Tensor& joints, const MaybeTensor& angle, const MaybeTensor& scale, const MaybeTensor& shift,
                   const MaybeTensor& flip, const MaybeTensor& root_shift_weight, int64_t root,
                   int64_t root_shift_joint, bool relative) {
  return run(false, joints, angle, scale, shift, flip, root_shift_weight, root, root_shift_joint, relative);
}

Tensor warp_joints_backward(const Tensor& grad, const MaybeTensor& angle, const MaybeTensor& scale,
                            const MaybeTensor& shift, const MaybeTensor& flip, const MaybeTensor& root_shift_weight,
                            int64_t root, int64_t root_shift_joint, bool relative) {
  return run(true, grad, angle, scale, shift, flip, root_shift_weight, root, root_shift_joint, relative);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cvhpe, CUDA, m) {
  m.impl("warp_joints", TORCH_BOX(&warp_joints));
  m.impl("warp_joints_backward", TORCH_BOX(&warp_joints_backward));
}
