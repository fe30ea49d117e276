// Every warp_image kernel that is launched, for test_kernels.py to look at what the compiler made of it.
#include "cuda/warp_image.cuh"

namespace cvhpe {

#define WARP_IMAGE(T)                                        \
  template __global__ void warp_image_kernel<T, 1>(WarpImageJob); \
  template __global__ void warp_image_kernel<T, 3>(WarpImageJob);
WARP_IMAGE(uint8_t)
WARP_IMAGE(uint16_t)
WARP_IMAGE(float)
WARP_IMAGE(double)
WARP_IMAGE(BFloat)
WARP_IMAGE(Half)

}  // namespace cvhpe
