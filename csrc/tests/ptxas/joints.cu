// Every kernel of the joint operators that is launched, for test_ptxas.py to look at what the compiler made of it.
#include "cuda/elbo.cuh"
#include "cuda/joints_loss.cuh"
#include "cuda/warp_joints.cuh"

namespace cvhpe {

template __global__ void joints_loss_kernel<float, 2>(const __grid_constant__ JointsLoss, int64_t, float*);
template __global__ void joints_loss_kernel<float, 3>(const __grid_constant__ JointsLoss, int64_t, float*);
template __global__ void joints_loss_kernel<double, 2>(const __grid_constant__ JointsLoss, int64_t, double*);
template __global__ void joints_loss_kernel<double, 3>(const __grid_constant__ JointsLoss, int64_t, double*);

template __global__ void elbo_joints_kernel<float>(const __grid_constant__ Elbo);
template __global__ void elbo_joints_kernel<double>(const __grid_constant__ Elbo);
template __global__ void elbo_sums_kernel<float>(const __grid_constant__ Elbo, bool);
template __global__ void elbo_sums_kernel<double>(const __grid_constant__ Elbo, bool);
template __global__ void elbo_backward_kernel<float>(const __grid_constant__ ElboGradients);
template __global__ void elbo_backward_kernel<double>(const __grid_constant__ ElboGradients);

#define WARP_JOINTS(T, K)                                                                                              \
  template __global__ void warp_joints_kernel<T, K>(const __grid_constant__ JointsView, const T*, T*, int64_t, int64_t); \
  template __global__ void warp_joints_backward_kernel<T, K>(const __grid_constant__ JointsView, const T*, T*, int64_t,  \
                                                             int64_t);
#define WARP_JOINTS_BOTH(T) WARP_JOINTS(T, 2) WARP_JOINTS(T, 3)
WARP_JOINTS_BOTH(float)
WARP_JOINTS_BOTH(double)
WARP_JOINTS_BOTH(BFloat)
WARP_JOINTS_BOTH(Half)

}  // namespace cvhpe
