"""Fixtures of the operator tests: where the tensors live, which instruction set the CPU kernels use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from cvhpe.ops import extension_loader

STATE = extension_loader.load()
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(not STATE.loaded, reason=f"no kernels: {STATE.reason}")),
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(
                "cuda" not in STATE.devices or not torch.cuda.is_available(),
                reason="no CUDA device" if "cuda" in STATE.devices else f"no CUDA kernels: {STATE.reason}",
            ),
        ],
    ),
]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """A device that the kernels serve."""
    return request.param


@pytest.fixture(params=["portable", "avx2", "avx512"])
def cpu_level(request: pytest.FixtureRequest) -> Iterator[str]:
    """One instruction set of the CPU kernels."""
    if not STATE.loaded:
        pytest.skip(f"no kernels: {STATE.reason}")
    from cvhpe import _C  # type: ignore[attr-defined]

    before = _C.cpu_level()
    try:
        _C.set_cpu_level(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield request.param
    _C.set_cpu_level(before)
