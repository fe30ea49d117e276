"""setup.py: what is missing is said in one line, and what was asked for is obeyed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def build(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", "-q", *(arguments or ("build_ext", f"--build-lib={tmp_path}/lib"))]
        + ([] if arguments else [f"--build-temp={tmp_path}/temp"]),
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("CVHPE_")} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def assert_says(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert done.returncode != 0
    assert "Traceback" not in done.stderr, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("cvhpe: "), done.stderr
    assert words in last


def test_a_missing_compiler(tmp_path: Path) -> None:
    assert_says(build(tmp_path, CXX="no-such-compiler"), "no C++ compiler found (looked for no-such-compiler)")


def test_a_wrong_wish(tmp_path: Path) -> None:
    assert_says(build(tmp_path, CVHPE_CUDA="yes"), "CVHPE_CUDA='yes': use 0")


def test_cuda_asked_for_without_nvcc(tmp_path: Path) -> None:
    assert_says(build(tmp_path, CVHPE_CUDA="1", CUDACXX=str(tmp_path / "nvcc")), "CVHPE_CUDA=1, but nvcc is not found")


def test_no_kernels_on_request(tmp_path: Path) -> None:
    done = build(tmp_path, CVHPE_KERNELS="0")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.parametrize("missing", ["torch", "pybind11"])
def test_a_missing_package(tmp_path: Path, missing: str) -> None:
    """A find_spec that does not find the package stands in for an environment without it."""
    code = (
        "import importlib.util as u, runpy, sys; real = u.find_spec\n"
        f"u.find_spec = lambda name, *a: None if name == {missing!r} else real(name, *a)\n"
        f"sys.argv = ['setup.py', '-q', 'build_ext', '--build-lib={tmp_path}/lib', '--build-temp={tmp_path}/temp']\n"
        "runpy.run_path('setup.py', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert_says(done, f"{missing} is missing from the build environment: pip install {missing}")


def test_the_oldest_torch_is_the_one_that_is_asked_for() -> None:
    """CMake's ABI target and the package's lower bound must not drift apart."""
    import re

    target = re.search(r"set\(target_version 0x(\w\w)(\w\w)0{12}\)", (ROOT / "CMakeLists.txt").read_text())
    assert target is not None
    version = f"{int(target[1], 16)}.{int(target[2], 16)}"
    assert f'CVHPE_TARGET_VERSION="{version}"' in (ROOT / "CMakeLists.txt").read_text()
    assert (ROOT / "pyproject.toml").read_text().count(f'"torch>={version}"') == 2
