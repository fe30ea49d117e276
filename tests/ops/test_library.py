"""Loading the kernels: what is said, what is refused, what is registered; each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cvhpe.ops import extension_loader

STATE = extension_loader.load()
needs_kernels = pytest.mark.skipif(not STATE.loaded, reason=f"no kernels: {STATE.reason}")
OPERATORS = [
    "sample_kl",
    "sample_kl_backward",
    "warp_joints",
    "warp_joints_backward",
    "joints_loss",
    "elbo",
    "elbo_backward",
]

ASK = """
import logging, torch
logging.basicConfig(format="LOG %(message)s")
from cvhpe.ops import sample_kl, state
s = state()
print(s.built, s.loaded, s.reason, s.nodes)
print(sample_kl(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([1]))[0].shape)
"""


def ask(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ASK], env=os.environ | environment, capture_output=True, text=True, timeout=120
    )


@needs_kernels
@pytest.mark.parametrize("name", OPERATORS)
def test_cpu_kernels_fakes_and_gradients_are_registered(name: str) -> None:
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    assert has(f"cvhpe::{name}", "CPU")
    assert has(f"cvhpe::{name}", "Meta")
    assert has(f"cvhpe::{name}", "Autograd") == (not name.endswith("_backward"))


@pytest.mark.skipif("cuda" not in STATE.devices, reason=f"no CUDA kernels: {STATE.reason}")
@pytest.mark.parametrize("name", OPERATORS)
def test_cuda_kernels_are_registered(name: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"cvhpe::{name}", "CUDA")


@pytest.mark.skipif(not STATE.nodes, reason=f"no C++ nodes: {STATE.reason}")
@pytest.mark.parametrize("key", ["AutogradCPU", "AutogradCUDA"])
def test_cpp_nodes_are_registered(key: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key("cvhpe::sample_kl", key)


@needs_kernels
def test_python_nodes_serve_on_request_and_say_so() -> None:
    done = ask(CVHPE_NODES="python")
    assert done.returncode == 0, done.stderr
    assert "Python nodes: CVHPE_NODES=python asks for them False" in done.stdout


@pytest.mark.skipif(not STATE.nodes, reason=f"no C++ nodes: {STATE.reason}")
def test_nodes_of_another_torch_release_are_not_loaded() -> None:
    assert extension_loader._load_nodes("2.9.0") == (
        f"_C_autograd was built against torch 2.9.0, this is {torch.__version__.split('+')[0]}"
    )


@needs_kernels
def test_build_information_is_complete() -> None:
    assert set(STATE.build) == {"compiler", "torch", "torch_at_least", "cpu_levels", "cuda_architectures"}
    assert "portable" in STATE.build["cpu_levels"]
    assert tuple(map(int, STATE.build["torch_at_least"].split("."))) <= tuple(
        map(int, torch.__version__.split(".")[:2])
    )


def test_twins_on_request_are_not_silent() -> None:
    done = ask(CVHPE_OPS="twin")
    assert done.returncode == 0, done.stderr
    assert "False CVHPE_OPS=twin asks for the twins" in done.stdout
    assert done.stderr.count("LOG kernels not in use, the pure-torch twins serve") == 1


def test_missing_kernels_are_not_silent_and_can_be_refused(tmp_path: Path) -> None:
    done = ask(CVHPE_LIBRARY_DIR=str(tmp_path), CVHPE_OPS="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("False False no _C library in")
    assert "the pure-torch twins serve" in done.stderr
    refused = ask(CVHPE_LIBRARY_DIR=str(tmp_path), CVHPE_OPS="kernels")
    assert refused.returncode != 0
    assert "CVHPE_OPS=kernels, but no _C library" in refused.stderr


def test_a_broken_library_is_named(tmp_path: Path) -> None:
    from importlib.machinery import EXTENSION_SUFFIXES

    (tmp_path / f"_C{EXTENSION_SUFFIXES[0]}").write_text("not a library")
    done = ask(CVHPE_LIBRARY_DIR=str(tmp_path), CVHPE_OPS="")
    assert done.returncode == 0, done.stderr
    assert "True False _C" in done.stdout
    assert "does not load" in done.stdout


@needs_kernels
def test_a_broken_cuda_library_leaves_the_cpu_kernels(tmp_path: Path) -> None:
    if torch.version.cuda is None:
        pytest.skip("this torch has no CUDA, so the CUDA library is not looked at")
    built = extension_loader._find()
    assert built is not None
    (tmp_path / built.name).symlink_to(built)
    (tmp_path / "_C_cuda.so").write_text("not a library")
    done = ask(CVHPE_LIBRARY_DIR=str(tmp_path), CVHPE_OPS="")
    assert "True True CPU kernels; _C_cuda does not load" in done.stdout, done.stderr


@pytest.mark.parametrize("variable", ["CVHPE_OPS", "CVHPE_CPU", "CVHPE_NODES"])
def test_unknown_wishes_are_refused(variable: str) -> None:
    if variable != "CVHPE_OPS" and not STATE.loaded:
        pytest.skip(f"no kernels: {STATE.reason}")
    done = ask(**{"CVHPE_OPS": "kernels", variable: "fast"})
    assert done.returncode != 0
    assert f"{variable}=" in done.stderr
    assert "fast" in done.stderr


@needs_kernels
def test_a_device_without_kernels_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    extension_loader._told.discard("xla")
    with caplog.at_level("WARNING", "cvhpe.ops"):
        assert not extension_loader.serves("xla")
        assert not extension_loader.serves("xla")
    assert len(caplog.records) == 1
    assert "no kernels for xla tensors" in caplog.text


def test_the_step_in_the_documentation_runs() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "kernels.md").read_text()
    code = page.split("<!-- file: step.py -->\n```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(compile(code, "docs/kernels.md", "exec"), names)
    assert names["mu"].grad.isfinite().all()  # type: ignore[attr-defined]
