#include "cpu/level.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace cvhpe {
namespace {

bool has(Level wanted) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return wanted == Level::avx512 ? avx512 : wanted == Level::avx2 ? avx2 : true;
#else
  return wanted == Level::portable;
#endif
}

const char* name_of(Level level) {
  return level == Level::avx512 ? "avx512" : level == Level::avx2 ? "avx2" : "portable";
}

Level parse(const std::string& name) {
  for (Level level : {Level::portable, Level::avx2, Level::avx512}) {
    if (name != name_of(level)) continue;
    if (!has(level)) throw std::invalid_argument("CVHPE_CPU=" + name + ": this CPU cannot run it; leave it unset");
    return level;
  }
  throw std::invalid_argument("CVHPE_CPU=" + name + ": expected portable, avx2 or avx512");
}

std::atomic<int> current{-1};

}  // namespace

Level level() {
  int now = current.load(std::memory_order_relaxed);
  if (now < 0) {
    const char* asked = std::getenv("CVHPE_CPU");
    const Level best = has(Level::avx512) ? Level::avx512 : has(Level::avx2) ? Level::avx2 : Level::portable;
    now = static_cast<int>(asked && *asked ? parse(asked) : best);
    current.store(now, std::memory_order_relaxed);
  }
  return static_cast<Level>(now);
}

std::string level_name() { return name_of(level()); }

void set_level(const std::string& name) { current.store(static_cast<int>(parse(name)), std::memory_order_relaxed); }

}  // namespace cvhpe
