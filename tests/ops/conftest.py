"""Fixtures of the operator tests: the devices that have kernels, the CPU kernels' instruction sets and threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from cvhpe.ops import kernel_state

STATE = kernel_state()
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(not STATE.loaded, reason=STATE.reason)),
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(
                "cuda" not in STATE.devices or not torch.cuda.is_available(),
                reason="no CUDA device" if "cuda" in STATE.devices else STATE.reason,
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
        pytest.skip(STATE.reason)
    from cvhpe import _C  # type: ignore[attr-defined]

    before = _C.cpu_level()
    try:
        _C.set_cpu_level(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield request.param
    _C.set_cpu_level(before)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """A number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
