// The emulator itself: it must compute what a GPU does, and catch what a GPU leaves undefined.
#include "check.h"

namespace {

__global__ void sum_kernel(const int* in, int* out) {
  __shared__ int room[4];
  int x = in[blockIdx.x * blockDim.x + threadIdx.x];
  for (int step = 16; step > 0; step /= 2) x += __shfl_down_sync(0xffffffffu, x, step);
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
  __syncthreads();
  if (threadIdx.x == 0) out[blockIdx.x] = room[0] + room[1] + room[2] + room[3];
  __syncthreads();
}

__global__ void segments_kernel(int* out) {
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, static_cast<int>(threadIdx.x), 1, 16) * 100 +
                     __shfl_up_sync(0xffffffffu, static_cast<int>(threadIdx.x), 3, 16);
}

__global__ void race_kernel(int* out) { *out = static_cast<int>(threadIdx.x); }

__global__ void half_barrier_kernel() {
  if (threadIdx.x < 16) __syncthreads();
}

__global__ void outside_mask_kernel(int* out) { *out = __shfl_sync(0xffffu, 1, 20); }

__global__ void ended_lane_kernel(int* out) {
  if (threadIdx.x == 31) return;
  *out = __shfl_down_sync(0xffffffffu, 1, 1);
}

template <class F>
bool throws(const F& f) {
  try {
    f();
  } catch (const std::runtime_error&) {
    return true;
  }
  return false;
}

}  // namespace

int main() {
  test::both_orders([](bool) {
    test::Guarded<int> in(256, 3), out(2);
    cuda_on_cpu::launch(2, 128, [&] { sum_kernel(in.data(), out.data()); });
    test::expect(out[0] == 384 && out[1] == 384 && out.intact(), "sum over a block");
    test::Guarded<int> lanes(32);
    cuda_on_cpu::launch(1, 32, [&] { segments_kernel(lanes.data()); });
    for (int i = 0; i < 32; ++i)
      test::expect(lanes[i] == (i ^ 1) * 100 + (i % 16 < 3 ? i : i - 3), "shuffles within segments of 16");
  });
  int found[2];
  test::both_orders([&](bool reverse) { cuda_on_cpu::launch(1, 32, [&] { race_kernel(&found[reverse]); }); });
  test::expect(found[0] != found[1], "a race shows as a difference between the orders");
  int out = 0;
  test::expect(throws([] { cuda_on_cpu::launch(1, 32, [] { half_barrier_kernel(); }); }), "divergent barrier");
  test::expect(throws([&] { cuda_on_cpu::launch(1, 32, [&] { outside_mask_kernel(&out); }); }), "lane outside mask");
  test::expect(throws([&] { cuda_on_cpu::launch(1, 32, [&] { ended_lane_kernel(&out); }); }), "ended lane");
  test::Guarded<float> wall(4);
  wall.data()[4] = 1.f;
  test::expect(!wall.intact(), "a write past the end shows");
  return test::report("cuda_on_cpu");
}
