// The Python module cvhpe._C. Importing it registers the operators (csrc/ops, csrc/cpu); its functions are for
// `cvhpe doctor` and the tests.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu/level.h"

PYBIND11_MODULE(_C, m) {
  m.doc() = "Kernels of cvhpe: build information; the operators are torch.ops.cvhpe.*";
  m.def("build_info", [] {
    pybind11::dict info;
    info["compiler"] = __VERSION__;
    info["torch"] = CVHPE_TORCH_VERSION;
    info["torch_at_least"] = CVHPE_TARGET_VERSION;
    info["cpu_levels"] = CVHPE_LEVELS;
    info["cuda_architectures"] = CVHPE_CUDA_ARCHITECTURES;
    return info;
  }, "How this library was built, all values strings.");
  m.def("cpu_level", &cvhpe::level_name, "The instruction set in use: portable, avx2 or avx512.");
  m.def("set_cpu_level", &cvhpe::set_level, pybind11::arg("name"), "Use another instruction set (for tests).");
  cvhpe::level();  // a wrong CVHPE_CPU is an error at import, not in the first step
}
