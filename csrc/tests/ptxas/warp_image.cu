// Every warp_image kernel that is launched, for test_kernels.py to check for spills.
#include "cuda/warp_image.cuh"

namespace cvhpe {

template __global__ void warp_image_kernel<uint8_t, 1>(WarpImageJob);
template __global__ void warp_image_kernel<uint8_t, 3>(WarpImageJob);  // three channels at once: bytes alone
template __global__ void warp_image_kernel<uint16_t, 1>(WarpImageJob);
template __global__ void warp_image_kernel<float, 1>(WarpImageJob);

}  // namespace cvhpe
