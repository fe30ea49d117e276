// Every sample_kl kernel that is launched, for test_kernels.py to check for spills.
#include "cuda/sample_kl.cuh"

namespace cvhpe {

#define SAMPLE_KL(T)                                                                                                \
  template __global__ void sample_kl_forward_kernel<T>(const T*, const T*, const int64_t*, int64_t, int64_t, T*,    \
                                                       float*);                                                     \
  template __global__ void sample_kl_backward_kernel<T>(const T*, const float*, const T*, const T*, const int64_t*, \
                                                        int64_t, int64_t, T*, T*);
SAMPLE_KL(float)
SAMPLE_KL(BFloat)
SAMPLE_KL(Half)

}  // namespace cvhpe
