// Runs CUDA kernels on the CPU, to test them where there is no GPU. Include it before a .cuh; then
//
//   cuda_on_cpu::launch(grid, block, [&] { my_kernel<float>(in, out, n); });
//
// Every CUDA thread of a block is a fiber (ucontext); blocks run one after another. A fiber runs until it meets a
// barrier or a warp operation and waits there for the others, as a GPU thread does. What a GPU leaves undefined is an
// error here: a barrier that not all threads reach, a warp operation whose mask names a lane that does not come or
// has ended, a shuffle from outside the mask. Threads run in rising order, or in falling order where `reverse` is
// set: a kernel that gives another result then has a race.
//
// Known: threadIdx, blockIdx, blockDim, gridDim, __shared__, __syncthreads, __syncwarp, __shfl_*_sync, __any_sync,
// __all_sync, __ballot_sync, atomicAdd, __ldg. One thread of the host at a time.
#pragma once
#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__ __restrict
#define __constant__ static const
#define __shared__ static  // blocks run one after another: one copy serves them all

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace cuda_on_cpu {

inline bool reverse = false;

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 128 * 1024;

enum class State { runs, waits_for_block, waits_for_warp, ended };

// What a fiber asks of its warp: fibers are let go together only if they ask the same.
struct WarpCall {
  const char* name = nullptr;
  unsigned mask = 0;
  uint64_t value = 0;
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  State state = State::ended;
  WarpCall call;
  dim3 thread;
};

struct Machine {
  ucontext_t host;
  std::vector<Fiber> fibers;
  size_t current = 0;
  std::function<void()> kernel;
  std::exception_ptr failure;
  dim3 grid, block, block_index;

  Fiber& now() { return fibers[current]; }

  void wait(State state) {
    now().state = state;
    swapcontext(&now().context, &host);
  }

  static void enter();

  void start(size_t i) {
    Fiber& f = fibers[i];
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = kStackBytes;
    f.context.uc_link = &host;
    f.state = State::runs;
    makecontext(&f.context, &Machine::enter, 0);
  }

  // Let every fiber that can run do so until it waits or ends; whether any could.
  bool run_all() {
    bool any = false;
    for (size_t k = 0; k < fibers.size(); ++k) {
      const size_t i = reverse ? fibers.size() - 1 - k : k;
      if (fibers[i].state != State::runs) continue;
      any = true;
      current = i;
      swapcontext(&host, &fibers[i].context);
      if (failure) std::rethrow_exception(failure);
    }
    return any;
  }

  // Let a warp's lanes go on whose mask is complete; whether any was.
  bool release_warp(size_t first) {
    bool released = false;
    for (size_t lane = 0; lane < kWarp && first + lane < fibers.size(); ++lane) {
      if (fibers[first + lane].state != State::waits_for_warp) continue;
      const WarpCall call = fibers[first + lane].call;
      bool complete = true;
      for (size_t other = 0; other < kWarp; ++other) {
        if (!(call.mask >> other & 1)) continue;
        if (first + other >= fibers.size()) continue;  // a block that ends within a warp: those lanes do not exist
        const Fiber& f = fibers[first + other];
        if (f.state == State::ended)
          throw std::runtime_error(std::string(call.name) + ": a lane of the mask has ended");
        complete = complete && f.state == State::waits_for_warp && f.call.name == call.name && f.call.mask == call.mask;
      }
      if (!complete) continue;
      for (size_t other = 0; other < kWarp && first + other < fibers.size(); ++other)
        if (call.mask >> other & 1) fibers[first + other].state = State::runs;
      released = true;
    }
    return released;
  }

  bool release_block() {
    size_t waiting = 0;
    for (const Fiber& f : fibers) waiting += f.state == State::waits_for_block;
    if (waiting == 0) return false;
    if (waiting != fibers.size()) throw std::runtime_error("__syncthreads: not every thread of the block reaches it");
    for (Fiber& f : fibers) f.state = State::runs;
    return true;
  }

  void run_block() {
    for (size_t i = 0; i < fibers.size(); ++i) start(i);
    for (;;) {
      while (run_all()) {
      }
      bool ended = true, released = false;
      for (const Fiber& f : fibers) ended = ended && f.state == State::ended;
      if (ended) return;
      for (size_t first = 0; first < fibers.size(); first += kWarp) released = release_warp(first) || released;
      if (!released && !release_block()) throw std::runtime_error("warp operation: a lane of the mask does not come");
    }
  }
};

inline Machine* machine = nullptr;

inline void Machine::enter() {
  try {
    machine->kernel();
  } catch (...) {
    machine->failure = std::current_exception();
  }
  machine->wait(State::ended);
}

inline void launch(dim3 grid, dim3 block, std::function<void()> kernel) {
  Machine m;
  m.grid = grid;
  m.block = block;
  m.kernel = std::move(kernel);
  m.fibers.resize(static_cast<size_t>(block.x) * block.y * block.z);
  size_t i = 0;
  for (unsigned z = 0; z < block.z; ++z)
    for (unsigned y = 0; y < block.y; ++y)
      for (unsigned x = 0; x < block.x; ++x) m.fibers[i++].thread = dim3(x, y, z);
  machine = &m;
  const unsigned blocks = grid.x * grid.y * grid.z;
  for (unsigned k = 0; k < blocks; ++k) {
    const unsigned b = reverse ? blocks - 1 - k : k;
    m.block_index = dim3(b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y));
    m.run_block();
  }
  machine = nullptr;
}

// Hands `value` to the warp; afterwards read(lane) gives what another lane handed in. A second wait keeps the values
// until all have read.
template <class T, class Read>
T exchange(const char* name, unsigned mask, T value, Read read) {
  static_assert(sizeof(T) <= 8);
  const size_t lane = machine->current % kWarp, first = machine->current - lane;
  if (!(mask >> lane & 1)) throw std::runtime_error(std::string(name) + ": the calling lane is not in the mask");
  WarpCall& call = machine->now().call;
  call = {name, mask, 0};
  std::memcpy(&call.value, &value, sizeof(T));
  machine->wait(State::waits_for_warp);
  const T result = read([&](size_t from) -> T {
    if (first + from >= machine->fibers.size() || !(mask >> from & 1))
      throw std::runtime_error(std::string(name) + ": reads a lane outside the mask");
    T other;
    std::memcpy(&other, &machine->fibers[first + from].call.value, sizeof(T));
    return other;
  });
  machine->now().call.name = "after a warp operation";
  machine->wait(State::waits_for_warp);
  return result;
}

// `target(place, width)` is the place within the lane's segment that is read; outside of it a lane keeps its own.
template <class T, class Target>
T shuffle(const char* name, unsigned mask, T value, int width, Target target) {
  const int lane = static_cast<int>(machine->current % kWarp), place = lane % width;
  return exchange(name, mask, value, [&](auto from) {
    const int wanted = target(place);
    return wanted < 0 || wanted >= width ? value : from(static_cast<size_t>(lane - place + wanted));
  });
}

}  // namespace cuda_on_cpu

#define threadIdx (cuda_on_cpu::machine->now().thread)
#define blockIdx (cuda_on_cpu::machine->block_index)
#define blockDim (cuda_on_cpu::machine->block)
#define gridDim (cuda_on_cpu::machine->grid)

inline void __syncthreads() { cuda_on_cpu::machine->wait(cuda_on_cpu::State::waits_for_block); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  cuda_on_cpu::exchange("__syncwarp", mask, 0, [](auto) { return 0; });
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  return cuda_on_cpu::shuffle("__shfl_sync", mask, value, width, [=](int) { return source % width; });
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int step, int width = 32) {
  return cuda_on_cpu::shuffle("__shfl_down_sync", mask, value, width, [=](int place) { return place + step; });
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int step, int width = 32) {
  return cuda_on_cpu::shuffle("__shfl_up_sync", mask, value, width, [=](int place) { return place - step; });
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  return cuda_on_cpu::shuffle("__shfl_xor_sync", mask, value, width, [=](int place) { return place ^ bits; });
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return cuda_on_cpu::exchange("__ballot_sync", mask, predicate != 0 ? 1u : 0u, [=](auto from) {
    unsigned votes = 0;
    for (unsigned lane = 0; lane < cuda_on_cpu::kWarp; ++lane)
      if (mask >> lane & 1) votes |= from(lane) << lane;
    return votes;
  });
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }
template <class T>
T atomicAdd(T* address, T value) {  // one host thread: plain code is atomic
  const T old = *address;
  *address = old + value;
  return old;
}
template <class T>
T __ldg(const T* address) {
  return *address;
}
