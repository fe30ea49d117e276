"""Loading the kernels: what is reported, what is refused, what is registered; each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
import torch

from cvhpe.ops import extension_loader, kernel_state

STATE = kernel_state()
needs_kernels = pytest.mark.skipif(not STATE.loaded, reason=STATE.reason)
OPERATORS = [
    "elbo",
    "elbo_backward",
    "joints_loss",
    "sample_kl",
    "sample_kl_backward",
    "warp_image",
    "warp_joints",
    "warp_joints_backward",
]
NOT_DIFFERENTIABLE = {"elbo_backward", "sample_kl_backward", "warp_image", "warp_joints_backward"}

PROGRAM = """
import logging, torch
logging.basicConfig(format="LOG %(message)s")
from cvhpe.ops import kernel_state, sample_kl
state = kernel_state()
print(state.loaded, state.reason)
print(sample_kl(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([1]))[0].shape)
"""


def run_program(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | environment, capture_output=True, text=True, timeout=120
    )


@needs_kernels
@pytest.mark.parametrize("name", OPERATORS)
def test_kernels_fakes_and_gradients_are_registered(name: str) -> None:
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    assert has(f"cvhpe::{name}", "CPU")
    assert has(f"cvhpe::{name}", "Meta")
    assert has(f"cvhpe::{name}", "Autograd") == (name not in NOT_DIFFERENTIABLE)
    if "cuda" in STATE.devices:
        assert has(f"cvhpe::{name}", "CUDA")


@needs_kernels
def test_build_information_is_complete() -> None:
    assert set(STATE.build) == {"compiler", "torch", "torch_at_least", "cpu_levels", "cuda_architectures"}
    assert "portable" in STATE.build["cpu_levels"]
    oldest = tuple(map(int, STATE.build["torch_at_least"].split(".")))
    assert oldest <= tuple(map(int, torch.__version__.split(".")[:2]))


def test_reference_implementations_that_were_asked_for_are_used_without_a_warning() -> None:
    done = run_program(CVHPE_OPS="reference")
    assert done.returncode == 0, done.stderr
    assert "False no kernels: CVHPE_OPS=reference" in done.stdout
    assert "LOG" not in done.stderr


def test_missing_kernels_are_announced_and_can_be_refused(tmp_path: Path) -> None:
    (tmp_path / "_kernels.txt").write_text("no C++ compiler was found\n")
    done = run_program(CVHPE_LIBRARY_DIR=str(tmp_path), CVHPE_OPS="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("False no kernels: no C++ compiler was found")
    refused = run_program(CVHPE_LIBRARY_DIR=str(tmp_path), CVHPE_OPS="kernels")
    assert refused.returncode != 0
    assert "CVHPE_OPS=kernels, but there are no kernels: no C++ compiler was found" in refused.stderr


def test_a_broken_library_is_named(tmp_path: Path) -> None:
    (tmp_path / f"_C{EXTENSION_SUFFIXES[0]}").write_text("not a library")
    done = run_program(CVHPE_LIBRARY_DIR=str(tmp_path), CVHPE_OPS="")
    assert done.returncode == 0, done.stderr
    assert "False no kernels: _C" in done.stdout
    assert "does not load" in done.stdout


@needs_kernels
def test_a_broken_cuda_library_leaves_the_cpu_kernels(tmp_path: Path) -> None:
    if torch.version.cuda is None:
        pytest.skip("this torch has no CUDA, so the CUDA library is not loaded")
    from cvhpe import _C  # type: ignore[attr-defined]

    built = Path(_C.__file__)
    (tmp_path / built.name).symlink_to(built)
    (tmp_path / "_C_cuda.so").write_text("not a library")
    done = run_program(CVHPE_LIBRARY_DIR=str(tmp_path), CVHPE_OPS="")
    assert "True CPU kernels; no CUDA kernels: _C_cuda does not load" in done.stdout, done.stderr


@pytest.mark.parametrize("variable", ["CVHPE_OPS", "CVHPE_CPU"])
def test_unknown_choices_are_refused(variable: str) -> None:
    if variable != "CVHPE_OPS" and not STATE.loaded:
        pytest.skip(STATE.reason)
    done = run_program(**{"CVHPE_OPS": "kernels", variable: "fast"})
    assert done.returncode != 0
    assert f"{variable}=" in done.stderr
    assert "fast" in done.stderr


@needs_kernels
def test_a_device_without_kernels_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "cvhpe.ops"):
        assert not extension_loader.has_kernels("xla")
        assert not extension_loader.has_kernels("xla")
    assert len(caplog.records) == 1
    assert "no kernels for xla tensors" in caplog.text


def test_the_step_in_the_documentation_runs() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "kernels.md").read_text()
    code = page.split("<!-- file: step.py -->\n```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(compile(code, "docs/kernels.md", "exec"), names)
    assert names["mu"].grad.isfinite().all()  # type: ignore[attr-defined]
