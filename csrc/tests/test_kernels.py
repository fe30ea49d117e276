"""The kernels without torch and without a GPU: the programs of this folder, and what nvcc makes of every kernel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
PROGRAMS = sorted(p.stem for p in HERE.glob("test_*.cpp"))


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built() -> Path:
    """The test programs, built into a folder that later runs find again."""
    if not shutil.which("cmake") or not (shutil.which("c++") or os.environ.get("CXX")):
        pytest.skip("needs cmake and a C++ compiler")
    folder = ROOT / "build" / "kernel-tests"
    run("cmake", "-S", HERE, "-B", folder, *(["-G", "Ninja"] if shutil.which("ninja") else []))
    run("cmake", "--build", folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program: str, built: Path) -> None:
    out = run("ctest", "--test-dir", built, "-R", f"^{program}$", "--output-on-failure")
    assert "100% tests passed" in out


@pytest.mark.slow
def test_ctest_knows_every_program(built: Path) -> None:
    listed = run("ctest", "--test-dir", built, "-N")
    assert all(program in listed for program in PROGRAMS)


def kernels_of(source: Path) -> set[str]:
    return set(re.findall(r"\b(\w+_kernel)\b\s*\(", source.read_text()))


def test_every_kernel_is_looked_at() -> None:
    """A kernel in csrc/cuda that no file of ptxas/ names would escape the test below."""
    named = "".join(p.read_text() for p in (HERE / "ptxas").glob("*.cu"))
    for header in (HERE.parent / "cuda").glob("*.cuh"):
        for kernel in kernels_of(header):
            assert kernel in named, f"{header.name}: {kernel} is not instantiated in csrc/tests/ptxas"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("nvcc"), reason="nvcc is not found")
@pytest.mark.parametrize("source", sorted((HERE / "ptxas").glob("*.cu")), ids=lambda p: p.stem)
def test_no_kernel_spills_or_uses_a_stack(source: Path, tmp_path: Path) -> None:
    known = run("nvcc", "--list-gpu-arch").split()
    targets = [a for a in ARCHITECTURES if f"compute_{a}" in known]
    assert targets, "this nvcc knows none of our architectures"
    out = run(
        "nvcc",
        *("-std=c++20", "-O3", "--fmad=false", f"-I{HERE.parent}", "-Xptxas", "-v", "--threads", "2", "-c"),
        *(f"-gencode=arch=compute_{a},code=sm_{a}" for a in targets),
        *("-o", tmp_path / "kernels.o", source),
    )
    verdicts = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores", out, re.S
    )
    assert len(verdicts) >= len(targets), out[-2000:]
    bad = [f"{name} on {target}: stack {s}, spilled {p}" for name, target, s, p in verdicts if (s, p) != ("0", "0")]
    assert not bad, "\n".join(bad)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.environ.get("CVHPE_SANITIZE") != "1", reason="takes minutes; CVHPE_SANITIZE=1 runs it")
def test_nothing_is_found_by_the_sanitizers(tmp_path: Path) -> None:
    """Two builds of everything under AddressSanitizer and UndefinedBehaviorSanitizer, and their tests."""
    runtime = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip("g++ has no libasan")
    out = run("sh", HERE / "sanitize.sh", tmp_path, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
    assert "ERROR: AddressSanitizer" not in out
