// Every kernel of the joint operators that is launched, for test_kernels.py to check for spills.
#include "cuda/elbo.cuh"
#include "cuda/joints_loss.cuh"
#include "cuda/warp_joints.cuh"

namespace cvhpe {

template __global__ void joints_loss_kernel<2>(const __grid_constant__ JointsLoss, int64_t, float*);
template __global__ void joints_loss_kernel<3>(const __grid_constant__ JointsLoss, int64_t, float*);

// Compiled as they stand, without a template: elbo_joints_kernel(), elbo_sums_kernel(), elbo_backward_kernel().

#define WARP_JOINTS(T, K)                                                                                      \
  template __global__ void warp_joints_kernel<T, K>(const __grid_constant__ JointsView, const T*, T*, int64_t, \
                                                    int64_t);                                                  \
  template __global__ void warp_joints_backward_kernel<T, K>(const __grid_constant__ JointsView, const T*, T*, \
                                                             int64_t, int64_t);
#define WARP_JOINTS_BOTH(T) WARP_JOINTS(T, 2) WARP_JOINTS(T, 3)
WARP_JOINTS_BOTH(float)
WARP_JOINTS_BOTH(BFloat)
WARP_JOINTS_BOTH(Half)

}  // namespace cvhpe
