// Every sample_kl kernel that is launched, for test_ptxas.py to look at what the compiler made of it.
#include "cuda/sample_kl.cuh"

namespace cvhpe {

#define SAMPLE_KL(T)                                                                                                \
  template __global__ void sample_kl_forward_kernel<T>(const T*, const T*, const int64_t*, int64_t, int64_t, int64_t, \
                                                       uint32_t, T*, Wide<T>*);                                     \
  template __global__ void sample_kl_backward_kernel<T>(const T*, const Wide<T>*, const T*, const T*, const int64_t*, \
                                                        int64_t, int64_t, int64_t, uint32_t, T*, T*);
SAMPLE_KL(float)
SAMPLE_KL(double)
SAMPLE_KL(BFloat)
SAMPLE_KL(Half)

}  // namespace cvhpe
