"""Builds the kernels with CMake and Ninja; everything else of the package is in pyproject.toml.

CVHPE_KERNELS=0|1  install without kernels | fail where they cannot be built; unset: build what this machine can build
CVHPE_CUDA=0|1     the same for the CUDA kernels alone
CXX, CUDACXX, CUDA_HOME, CMAKE_CUDA_ARCHITECTURES, CMAKE_BUILD_TYPE   as CMake knows them
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from build_backend import (  # noqa: E402
    MissingToolError,
    find_compiler,
    find_nvcc,
    find_tool,
    find_torch,
    gpu_architectures,
    switch,
)

NOTE = "_kernels.txt"  # why kernels are missing, in one line; cvhpe.ops.extension_loader shows it


class CMakeBuild(build_ext):
    """Builds ``_C`` and ``_C_cuda``, or says why not, and leaves no library of an earlier build behind."""

    def run(self) -> None:
        kernels, cuda = switch("CVHPE_KERNELS"), switch("CVHPE_CUDA")
        folder = Path(self.build_lib).resolve() / "cvhpe"
        folder.mkdir(parents=True, exist_ok=True)
        remove_libraries(folder)
        note = "CVHPE_KERNELS=0 left the kernels out"
        if kernels is not False:
            try:
                note = self.build_kernels(folder, cuda)
            except MissingToolError as error:
                remove_libraries(folder)
                if kernels or cuda:
                    sys.exit(f"cvhpe: CVHPE_{'KERNELS' if kernels else 'CUDA'}=1, but {error}")
                note = str(error)
        if note:
            missing = "CUDA kernels" if libraries(folder) else "kernels"
            print(f"cvhpe: installing without {missing}: {note}", file=sys.stderr)
        (folder / NOTE).write_text(note + "\n")
        self.built = [*libraries(folder), folder / NOTE]
        if self.inplace:
            remove_libraries(ROOT / "cvhpe")
            for file in self.built:
                shutil.copy2(file, ROOT / "cvhpe" / file.name)

    def build_kernels(self, folder: Path, cuda: bool | None) -> str:
        """Build into ``folder``; why the CUDA kernels are missing, or nothing."""
        cxx, torch, cmake, ninja = find_compiler(), find_torch(), find_tool("cmake"), find_tool("ninja")
        if importlib.util.find_spec("pybind11") is None:
            raise MissingToolError("pybind11 is missing from the build environment: pip install pybind11")
        build = Path(self.build_temp).resolve() / "cmake"
        configure = [
            *(cmake, "-S", str(ROOT), "-B", str(build), "-G", "Ninja"),
            f"-DCMAKE_MAKE_PROGRAM={ninja}",
            f"-DCMAKE_CXX_COMPILER={cxx}",
            f"-DCMAKE_BUILD_TYPE={os.environ.get('CMAKE_BUILD_TYPE', 'Release')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCVHPE_OUTPUT={folder}",
        ]
        note = "CVHPE_CUDA=0 left the CUDA kernels out"
        if cuda is not False:
            try:
                nvcc = find_nvcc(torch)
                gpus = [f"-DCMAKE_CUDA_COMPILER={nvcc}", f"-DCMAKE_CUDA_ARCHITECTURES={gpu_architectures(nvcc)}"]
                run_cmake([*configure, "-DCVHPE_CUDA=ON", *gpus], build)
                return ""
            except MissingToolError as error:
                if cuda:
                    raise
                note = str(error)
                remove_libraries(folder)
        run_cmake([*configure, "-DCVHPE_CUDA=OFF"], build)
        return note

    def get_outputs(self) -> list[str]:
        return [str(file) for file in self.built]

    def get_output_mapping(self) -> dict[str, str]:
        return {str(file): str(ROOT / "cvhpe" / file.name) for file in self.built} if self.inplace else {}


def libraries(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.glob("_C*")) if p.suffix in (".so", ".pyd", ".dylib")]


def remove_libraries(folder: Path) -> None:
    for file in [*libraries(folder), folder / NOTE]:
        file.unlink(missing_ok=True)


def run_cmake(configure: list[str], build: Path) -> None:
    for step, command in (("configuring", configure), ("compiling", [configure[0], "--build", str(build)])):
        if subprocess.run(command).returncode:
            raise MissingToolError(f"{step} the kernels failed: pip install -v shows why")


if __name__ == "__main__":
    setup(ext_modules=[Extension("cvhpe._C", sources=[], optional=True)], cmdclass={"build_ext": CMakeBuild})
