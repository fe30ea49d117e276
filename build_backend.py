"""The PEP 517 backend: setuptools' own, and the choice of the kernels that this machine can build.

Missing build tools never stop an installation. Without a C++ compiler cvhpe is installed as pure Python, and cmake,
ninja, pybind11 and torch are not even asked for; without a usable nvcc the CPU kernels are built alone.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the hooks that pip calls)

REQUIREMENTS = ["cmake>=3.31", "ninja", "pybind11>=2.13", "torch>=2.10"]
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
REINSTALL = "then install cvhpe again"


class MissingToolError(Exception):
    """Kernels cannot be built. The message says in one line what is missing and how to get it."""


def switch(name: str) -> bool | None:
    """An environment variable that is 0 (never), 1 (insist) or unset (where it is possible)."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        sys.exit(f"cvhpe: {name}={value!r}: use 0 (never), 1 (insist) or leave it unset (where it can be built)")
    return None if value == "" else value == "1"


def get_requires_for_build_wheel(config_settings: dict | None = None) -> list[str]:
    """What the kernels need, where they can be built at all."""
    base = build_meta.get_requires_for_build_wheel(config_settings)
    if switch("CVHPE_KERNELS") is False:
        return base
    try:
        find_compiler()
    except MissingToolError:
        return base
    return base + REQUIREMENTS


get_requires_for_build_editable = get_requires_for_build_wheel


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1].strip() if lines else f"exit status {done.returncode}"


def find_compiler() -> str:
    """The C++ compiler, after it has compiled a line of C++20."""
    names = [os.environ["CXX"].split()[0]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    advice = f"install one (Debian, Ubuntu: apt install g++; macOS: xcode-select --install), {REINSTALL}"
    for name in names:
        if shutil.which(name) is None:
            continue
        done = subprocess.run(
            [name, "-std=c++20", "-fsyntax-only", "-x", "c++", "-"],
            input="#include <concepts>\nstatic_assert(std::integral<int>);\n",
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            return name
        raise MissingToolError(f"the C++ compiler {name} does not compile C++20 ({last_line(done)}): {advice}")
    raise MissingToolError(f"no C++ compiler was found (looked for {', '.join(names)}): {advice}")


def find_torch() -> Path:
    """The folder of the installed torch. It is not imported, which takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise MissingToolError(f"torch is missing from the build environment: pip install torch, {REINSTALL}")
    return Path(spec.origin).parent


def find_tool(name: str) -> str:
    """cmake or ninja: the pip package's program before the system's, which is often too old."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None:
        for folder in (Path(sys.executable).parent, Path(spec.origin).parent / "data" / "bin"):
            if (folder / name).exists():
                return str(folder / name)
    program = shutil.which(name)
    if program is None:
        raise MissingToolError(f"{name} is missing: pip install {name}, {REINSTALL}")
    return program


def find_nvcc(torch: Path) -> str:
    """The CUDA compiler, if it fits the CUDA release of torch. A GPU need not be there."""
    cuda = torch_cuda(torch)
    if cuda is None:
        raise MissingToolError(f"this torch is built without CUDA: install a CUDA build of torch, {REINSTALL}")
    home = os.environ.get("CUDA_HOME")
    named = os.environ.get("CUDACXX") or (f"{home}/bin/nvcc" if home else "nvcc")
    program = shutil.which(named)
    advice = f"install the CUDA {cuda} toolkit and put its nvcc on the PATH or into CUDACXX, {REINSTALL}"
    if program is None:
        raise MissingToolError(f"nvcc was not found: {advice}")
    dry_run = subprocess.run([program, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True)
    for line in dry_run.stderr.splitlines():  # the nvcc on the PATH may be a wrapper: use the toolkit's own
        if line.startswith("#$ _HERE_="):
            program = str(Path(line.split("=", 1)[1].strip()) / "nvcc")
    version = subprocess.run([program, "--version"], capture_output=True, text=True)
    release = re.search(r"release (\d+)\.(\d+)", version.stdout)
    if version.returncode or release is None:
        raise MissingToolError(f"{program} does not run ({last_line(version)}): {advice}")
    if release[1] != cuda.split(".")[0]:
        raise MissingToolError(f"nvcc is of CUDA {release[1]}.{release[2]}, torch of CUDA {cuda}: {advice}")
    return program


def torch_cuda(torch: Path) -> str | None:
    """The CUDA release that torch was built with, read from its version file."""
    found = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", (torch / "version.py").read_text(), re.M)
    return found[1] if found else None


def gpu_architectures(nvcc: str) -> str:
    """Those of ours that this nvcc knows, and PTX for later GPUs, as CMake writes them."""
    if os.environ.get("CMAKE_CUDA_ARCHITECTURES"):
        return os.environ["CMAKE_CUDA_ARCHITECTURES"]
    listed = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True).stdout.split()
    known = [a for a in ARCHITECTURES if f"compute_{a}" in listed]
    if not known:
        raise MissingToolError(f"{nvcc} knows none of the GPU architectures {ARCHITECTURES}: install CUDA 12 or later")
    ptx = 90 if 90 in known else known[-1]
    return ";".join([*(f"{a}-real" for a in known), f"{ptx}-virtual"])
