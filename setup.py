"""Builds the kernels with CMake and Ninja; everything else of the package is in pyproject.toml.

CVHPE_KERNELS=0   install without kernels (the pure-torch twins serve)
CVHPE_CUDA=0|1    never | always build the CUDA library; by default it is built where nvcc is found
CUDACXX, CUDA_HOME, CMAKE_CUDA_ARCHITECTURES, CMAKE_BUILD_TYPE   as CMake knows them
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
CUDA_LIBRARY, NODES_LIBRARY = "_C_cuda.so", "_C_autograd.so"
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)


def give_up(missing: str) -> None:
    sys.exit(f"cvhpe: {missing}, or set CVHPE_KERNELS=0 to install without kernels")


def torch_folder() -> Path:
    """Where torch is, without importing it (that takes seconds)."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        give_up("torch is missing from the build environment: pip install torch")
    return Path(spec.origin).parent


def tool(name: str, package: str) -> str:
    """A build tool: the pip package's own program before whatever the system has (often too old)."""
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin is not None:
        for folder in (Path(sys.executable).parent, Path(spec.origin).parent / "data" / "bin"):
            if (folder / name).exists():
                return str(folder / name)
    found = shutil.which(name)
    if found is None:
        give_up(f"{name} is missing: pip install {package}")
    return str(found)


def compiler() -> str:
    wanted = [os.environ["CXX"].split()[0]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in wanted:
        if shutil.which(name):
            return name
    give_up(f"no C++ compiler found (looked for {', '.join(wanted)}): install g++ 11 or later")
    return ""


def nvcc() -> str | None:
    """The toolkit's own nvcc. The one on the PATH may be a wrapper script, so it is asked where it lives."""
    named = os.environ.get("CUDACXX") or (os.environ.get("CUDA_HOME") and os.environ["CUDA_HOME"] + "/bin/nvcc")
    found = shutil.which(named or "nvcc")
    if found is None:
        return None
    dry = subprocess.run([found, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True)
    for line in dry.stderr.splitlines():
        if line.startswith("#$ _HERE_="):
            return str(Path(line.split("=", 1)[1].strip()) / "nvcc")
    return found


def architectures(compiler: str) -> str:
    """Those of ours that this nvcc has, and PTX for GPUs newer than it knows."""
    if os.environ.get("CMAKE_CUDA_ARCHITECTURES"):
        return os.environ["CMAKE_CUDA_ARCHITECTURES"]
    listed = subprocess.run([compiler, "--list-gpu-arch"], capture_output=True, text=True).stdout.split()
    have = [a for a in ARCHITECTURES if f"compute_{a}" in listed]
    if not have:
        give_up(f"{compiler} knows none of the GPU architectures {ARCHITECTURES}: set CMAKE_CUDA_ARCHITECTURES")
    ptx = 90 if 90 in have else have[-1]
    return ";".join([*(f"{a}-real" for a in have), f"{ptx}-virtual"])


def cuda_choice(torch: Path) -> str | None:
    """The nvcc to build the CUDA library with, or None. A GPU need not be there."""
    wish = os.environ.get("CVHPE_CUDA", "")
    if wish not in ("", "0", "1"):
        sys.exit(f"cvhpe: CVHPE_CUDA={wish!r}: use 0 (never build CUDA), 1 (always) or leave it unset (where nvcc is)")
    if wish == "0":
        return None
    found = nvcc()
    missing = None
    if found is None:
        missing = "nvcc is not found: put it on the PATH or set CUDACXX"
    elif not any((torch / "lib").glob("*torch_cuda.*")):
        missing = f"this torch has no CUDA ({torch}): install a CUDA build of torch"
    if missing and wish == "1":
        sys.exit(f"cvhpe: CVHPE_CUDA=1, but {missing}")
    if missing:
        print(f"cvhpe: building without CUDA: {missing}")
    return None if missing else found


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        out = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        torch = torch_folder()
        cmake, ninja, cxx = tool("cmake", "cmake"), tool("ninja", "ninja"), compiler()
        if importlib.util.find_spec("pybind11") is None:
            give_up("pybind11 is missing from the build environment: pip install pybind11")
        cuda = cuda_choice(torch)
        build = Path(self.build_temp).resolve() / "cmake"
        configure = [
            f"-DCMAKE_MAKE_PROGRAM={ninja}",
            f"-DCMAKE_CXX_COMPILER={cxx}",
            f"-DCMAKE_BUILD_TYPE={os.environ.get('CMAKE_BUILD_TYPE', 'Release')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCVHPE_OUTPUT={out}",
            f"-DCVHPE_CUDA={'ON' if cuda else 'OFF'}",
        ]
        if cuda:
            configure += [f"-DCMAKE_CUDA_COMPILER={cuda}", f"-DCMAKE_CUDA_ARCHITECTURES={architectures(cuda)}"]
        self.run_or_say([cmake, "-S", str(ROOT), "-B", str(build), "-G", "Ninja", *configure])
        self.run_or_say([cmake, "--build", str(build)])
        if not cuda:
            (out / CUDA_LIBRARY).unlink(missing_ok=True)
        (out / NODES_LIBRARY).unlink(missing_ok=True)
        if subprocess.run([cmake, "--build", str(build), "--target", "nodes"]).returncode:
            print("cvhpe: the C++ nodes do not compile with this torch; Python's serve, some microseconds slower")

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()
        for library in (CUDA_LIBRARY, NODES_LIBRARY):
            built, source = Path(self.build_lib) / "cvhpe" / library, ROOT / "cvhpe" / library
            source.unlink(missing_ok=True)
            if built.exists():
                shutil.copy2(built, source)

    @staticmethod
    def run_or_say(command: list[str]) -> None:
        if subprocess.run(command).returncode:
            give_up(f"building the kernels failed at `{' '.join(command)}`: mend what is printed above")


skip = os.environ.get("CVHPE_KERNELS") == "0"
setup(
    ext_modules=[] if skip else [Extension("cvhpe._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
