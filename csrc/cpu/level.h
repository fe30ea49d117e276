// The instruction set of the vector loops: the best that the CPU has, or CVHPE_CPU=portable|avx2|avx512. Tests change
// it through _C.set_cpu_level.
#pragma once
#include <string>

namespace cvhpe {
enum class Level { portable, avx2, avx512 };

Level level();
std::string level_name();
void set_level(const std::string& name);

// The table for this CPU out of the three that one *.simd.cpp was compiled to.
#if defined(__x86_64__)
#define CVHPE_PICK(table)                                        \
  (::cvhpe::level() == ::cvhpe::Level::avx512  ? ::cvhpe::avx512::table \
   : ::cvhpe::level() == ::cvhpe::Level::avx2 ? ::cvhpe::avx2::table   \
                                              : ::cvhpe::portable::table)
#else
#define CVHPE_PICK(table) (::cvhpe::portable::table)
#endif

#define CVHPE_DECLARE_LEVELS(Table, table)       \
  namespace cvhpe {                              \
  namespace portable { extern const Table table; } \
  namespace avx2 { extern const Table table; }     \
  namespace avx512 { extern const Table table; }   \
  }
}  // namespace cvhpe
