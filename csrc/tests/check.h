// Shared by the kernel tests: counted checks, guarded buffers, both thread orders, pseudo-random numbers.
#pragma once
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cuda_on_cpu.h"
#include "math/number.h"

namespace test {

inline int checks = 0, failures = 0;

inline void expect(bool ok, const std::string& what) {
  ++checks;
  if (ok) return;
  ++failures;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
}

inline int report(const char* name) {
  std::printf("%s: %d checks, %d failed\n", name, checks, failures);
  return failures == 0 && checks > 0 ? 0 : 1;
}

// An array between two walls of a known pattern; `intact` is whether nobody wrote to the walls.
template <class T>
class Guarded {
 public:
  explicit Guarded(size_t count, T first = T{}) : count_(count), room_((count + 2 * kWall) * sizeof(T) + 64, kPattern) {
    for (size_t i = 0; i < count; ++i) data()[i] = first;
  }
  T* data() {
    const auto start = reinterpret_cast<uintptr_t>(room_.data());
    return reinterpret_cast<T*>((start + 63) / 64 * 64) + kWall;
  }
  T& operator[](size_t i) { return data()[i]; }
  size_t size() const { return count_; }
  bool intact() {
    const auto* bytes = reinterpret_cast<unsigned char*>(data());
    for (size_t i = 1; i <= kWall * sizeof(T); ++i)
      if (bytes[count_ * sizeof(T) + i - 1] != kPattern || *(bytes - i) != kPattern) return false;
    return true;
  }

 private:
  static constexpr size_t kWall = 64;
  static constexpr unsigned char kPattern = 0xA5;
  size_t count_;
  std::vector<unsigned char> room_;
};

template <class T>
bool same_bits(Guarded<T>& a, Guarded<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Numbers that look random and are the same everywhere: a linear congruential generator in [-1, 1).
class Numbers {
 public:
  explicit Numbers(uint64_t seed) : state_(seed * 2654435761u + 1) {}
  double next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state_ >> 11) * 0x1p-52 - 1.0;
  }
  template <class T>
  void fill(Guarded<T>& a, double scale) {
    for (size_t i = 0; i < a.size(); ++i) a[i] = cvhpe::math::narrow<T>(static_cast<float>(scale * next()));
  }

 private:
  uint64_t state_;
};

// Runs `body(reverse)` in rising and in falling thread order.
template <class F>
void both_orders(const F& body) {
  for (const bool reverse : {false, true}) {
    cuda_on_cpu::reverse = reverse;
    body(reverse);
  }
  cuda_on_cpu::reverse = false;
}

inline bool close(double a, double b, double tolerance) { return std::fabs(a - b) <= tolerance * (1 + std::fabs(b)); }

}  // namespace test
