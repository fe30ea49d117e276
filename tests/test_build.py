"""The build: missing tools leave kernels out and say so in one line; what was insisted on is built or fails."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from setuptools import Distribution, Extension

ROOT = Path(__file__).resolve().parents[1]


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the repository's root."""
    monkeypatch.syspath_prepend(str(ROOT))
    spec = importlib.util.spec_from_file_location(f"build_under_test_{name}", ROOT / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("CXX", "CUDACXX", "CUDA_HOME", "CVHPE_KERNELS", "CVHPE_CUDA"):
        monkeypatch.delenv(name, raising=False)
    return load("build_backend", monkeypatch)


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def fake_torch(folder: Path, cuda: str | None) -> Path:
    (folder / "version.py").write_text(f"cuda: Optional[str] = {cuda!r}\n")
    return folder


def test_a_missing_compiler_is_named(backend: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(backend.MissingToolError, match=r"no C\+\+ compiler was found .*: install one"):
        backend.find_compiler()


def test_a_compiler_that_fails_is_named(backend: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", str(script(tmp_path / "cxx", "echo no licence >&2; exit 1")))
    with pytest.raises(backend.MissingToolError, match=r"cxx does not compile C\+\+20 \(no licence\): install one"):
        backend.find_compiler()


def test_build_requirements_depend_on_the_compiler(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(backend.build_meta, "get_requires_for_build_wheel", lambda settings: [])
    monkeypatch.setattr(backend, "find_compiler", lambda: "c++")
    assert backend.get_requires_for_build_wheel() == backend.REQUIREMENTS
    monkeypatch.setenv("CVHPE_KERNELS", "0")
    assert backend.get_requires_for_build_wheel() == []


def test_nothing_is_required_without_a_compiler(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend.build_meta, "get_requires_for_build_wheel", lambda settings: [])
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert backend.get_requires_for_build_wheel() == []


@pytest.mark.parametrize(
    ("nvcc", "cuda", "words"),
    [
        (None, "13.0", "nvcc was not found: install the CUDA 13.0 toolkit"),
        ("exit 1", "13.0", r"does not run \(exit status 1\): install the CUDA 13.0"),
        ("echo Cuda compilation tools, release 11.8, V11.8.89", "13.0", "nvcc is of CUDA 11.8, torch of CUDA 13.0"),
        ("echo Cuda compilation tools, release 13.2, V13.2.1", None, "this torch is built without CUDA"),
    ],
)
def test_an_nvcc_that_does_not_serve_is_named(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nvcc: str | None, cuda: str | None, words: str
) -> None:
    monkeypatch.setenv("CUDACXX", str(script(tmp_path / "nvcc", nvcc) if nvcc else tmp_path / "none"))
    with pytest.raises(backend.MissingToolError, match=words):
        backend.find_nvcc(fake_torch(tmp_path, cuda))


def test_an_nvcc_of_the_same_major_version_serves(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nvcc = script(tmp_path / "nvcc", "echo Cuda compilation tools, release 13.2, V13.2.1")
    monkeypatch.setenv("CUDACXX", str(nvcc))
    assert backend.find_nvcc(fake_torch(tmp_path, "13.0")) == str(nvcc)


def test_an_unknown_switch_is_refused(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVHPE_CUDA", "yes")
    with pytest.raises(SystemExit, match=r"CVHPE_CUDA='yes': use 0 \(never\), 1 \(insist\)"):
        backend.switch("CVHPE_CUDA")


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backend: ModuleType) -> ModuleType:
    """setup.py over an empty source tree with libraries of an earlier build, where every tool is found."""
    setup = load("setup", monkeypatch)
    (tmp_path / "cvhpe").mkdir()
    for name in ("_C.cpython-311-x86_64-linux-gnu.so", "_C_cuda.so"):
        (tmp_path / "cvhpe" / name).write_text("of an earlier build")
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    for name in ("find_compiler", "find_nvcc", "find_tool", "find_torch", "gpu_architectures"):
        monkeypatch.setattr(setup, name, lambda *_: "there")
    return setup


def build_in_place(setup: ModuleType, tmp_path: Path) -> dict[str, str]:
    """The libraries and the note that stand beside the package afterwards."""
    distribution = Distribution({"name": "cvhpe", "ext_modules": [Extension("cvhpe._C", [], optional=True)]})
    command = setup.CMakeBuild(distribution)
    command.build_lib, command.build_temp, command.inplace = str(tmp_path / "lib"), str(tmp_path / "temp"), True
    command.run()
    assert set(command.get_output_mapping()) == set(command.get_outputs())
    return {p.name: p.read_text().strip() for p in (tmp_path / "cvhpe").iterdir()}


def cmake(*, cuda_works: bool, cpu_works: bool = True) -> object:
    """Stands in for CMake: writes the libraries that it would build, or fails."""

    def run(configure: list[str], build: Path) -> None:
        out = Path(next(a for a in configure if a.startswith("-DCVHPE_OUTPUT=")).split("=", 1)[1])
        (out / "_C.so").write_text("new")
        if "-DCVHPE_CUDA=ON" in configure:
            (out / "_C_cuda.so").write_text("new")
        if not (cuda_works if "-DCVHPE_CUDA=ON" in configure else cpu_works):
            raise sys.modules["build_backend"].MissingToolError(
                "compiling the kernels failed: pip install -v shows why"
            )  # type: ignore[attr-defined]

    return run


def test_everything_is_built_where_everything_works(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "run_cmake", cmake(cuda_works=True))
    assert build_in_place(build, tmp_path) == {"_C.so": "new", "_C_cuda.so": "new", "_kernels.txt": ""}


def test_a_failing_nvcc_leaves_the_cpu_kernels(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "run_cmake", cmake(cuda_works=False))
    files = build_in_place(build, tmp_path)
    assert files.keys() == {"_C.so", "_kernels.txt"}
    printed = capsys.readouterr().err.splitlines()
    assert printed == [f"cvhpe: installing without CUDA kernels: {files['_kernels.txt']}"]


def test_a_failing_compilation_leaves_pure_python(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "run_cmake", cmake(cuda_works=False, cpu_works=False))
    files = build_in_place(build, tmp_path)
    assert files == {"_kernels.txt": "compiling the kernels failed: pip install -v shows why"}
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", ["CVHPE_KERNELS", "CVHPE_CUDA"])
def test_insisting_fails_in_one_line(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr(build, "run_cmake", cmake(cuda_works=False, cpu_works=name == "CVHPE_CUDA"))
    monkeypatch.setenv(name, "1")
    with pytest.raises(SystemExit, match=rf"\Acvhpe: {name}=1, but compiling the kernels failed[^\n]*\Z"):
        build_in_place(build, tmp_path)


def test_kernels_are_left_out_on_request(build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "run_cmake", cmake(cuda_works=True))
    monkeypatch.setenv("CVHPE_CUDA", "0")
    assert build_in_place(build, tmp_path).keys() == {"_C.so", "_kernels.txt"}
    monkeypatch.setenv("CVHPE_KERNELS", "0")
    assert build_in_place(build, tmp_path).keys() == {"_kernels.txt"}


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [None, "false"])
def test_pip_makes_a_wheel_without_a_compiler(tmp_path: Path, compiler: str | None) -> None:
    """In a copy of the sources with a library of an earlier build, on a PATH that holds Python alone."""
    source, bin_dir = tmp_path / "source", tmp_path / "bin"
    ignored = shutil.ignore_patterns(".git", "build", "tests", "docs", "*.so", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    bin_dir.mkdir()
    (bin_dir / "python").symlink_to(sys.executable)
    if compiler:
        script(bin_dir / "c++", "exit 1")
    for stale in ("cvhpe", f"build/lib.linux-x86_64-cpython-{sys.version_info.major}{sys.version_info.minor}/cvhpe"):
        (source / stale).mkdir(parents=True, exist_ok=True)
        (source / stale / "_C_cuda.so").write_text("of an earlier build")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path / "out", "."],
        cwd=source,
        env={"PATH": str(bin_dir), "HOME": str(tmp_path), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        note = archive.read("cvhpe/_kernels.txt").decode()
    assert not [n for n in names if n.endswith(".so")]
    assert "cvhpe_rgb/__init__.py" in names
    assert ("does not compile C++20" if compiler else "no C++ compiler was found") in note
    if not compiler:  # the package runs, and says what is missing
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tmp_path / "site")
        run = subprocess.run(
            [sys.executable, "-c", "from cvhpe import ops; print(ops.kernel_state().reason)"],
            env=os.environ | {"PYTHONPATH": str(tmp_path / "site"), "CVHPE_OPS": "", "CVHPE_LIBRARY_DIR": ""},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.stdout.startswith("no kernels: no C++ compiler was found"), run.stderr


def test_the_oldest_torch_is_the_one_that_is_asked_for(backend: ModuleType) -> None:
    """CMake's ABI target and the lower bounds of torch must not drift apart."""
    target = re.search(r"set\(target_version 0x(\w\w)(\w\w)0{12}\)", (ROOT / "CMakeLists.txt").read_text())
    assert target is not None
    version = f"{int(target[1], 16)}.{int(target[2], 16)}"
    assert f'CVHPE_TARGET_VERSION="{version}"' in (ROOT / "CMakeLists.txt").read_text()
    assert f'"torch>={version}"' in (ROOT / "pyproject.toml").read_text()
    assert f"torch>={version}" in backend.REQUIREMENTS
