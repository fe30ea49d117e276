"""Finds and loads the compiled kernels, and reports what is in use.

``_C`` (schemas and CPU kernels) and ``_C_cuda`` (CUDA kernels) lie beside this package, or in the folder that
``CVHPE_LIBRARY_DIR`` names. ``CVHPE_OPS=reference`` selects the reference implementations; ``CVHPE_OPS=kernels`` makes
missing kernels an error.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from cvhpe.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("cvhpe.ops")


@dataclass(frozen=True)
class KernelState:
    """Which kernels are in use.

    Attributes:
        loaded: The operators ``torch.ops.cvhpe.*`` are registered and in use.
        reason: One line for the user: what is in use, and why kernels are missing.
        devices: Device types that have kernels; tensors of others go to the reference implementations.
        build: How ``_C`` was built: compiler, torch, CPU levels, GPU architectures.
    """

    loaded: bool
    reason: str
    devices: frozenset[str] = frozenset()
    build: Mapping[str, str] = field(default_factory=dict)


_state: KernelState | None = None  # a plain global: torch.compile cannot trace through functools.cache
_reported: set[str] = set()  # device types whose lack of kernels has been logged


def kernel_state() -> KernelState:
    """The state of the kernels, which are loaded on the first call.

    Returns:
        The state; without kernels its ``loaded`` is False.

    Raises:
        UserError: ``CVHPE_OPS`` has an unknown value, or asks for kernels that cannot be loaded.
    """
    global _state
    if _state is None:
        choice = os.environ.get("CVHPE_OPS", "")
        if choice not in ("", "reference", "kernels"):
            raise UserError(f"CVHPE_OPS={choice!r}: use 'reference', 'kernels' or leave it unset")
        state = KernelState(False, "no kernels: CVHPE_OPS=reference") if choice == "reference" else _load_libraries()
        if not state.loaded:
            if choice == "kernels":
                raise UserError(f"CVHPE_OPS=kernels, but there are {state.reason}")
            if choice != "reference":
                log.warning("the reference implementations are in use: %s", state.reason)
        _state = state
    return _state


def _load_libraries() -> KernelState:
    folder = Path(os.environ.get("CVHPE_LIBRARY_DIR") or Path(__file__).parents[1])
    paths = [folder / f"_C{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    path = next((p for p in paths if p.exists()), None)
    if path is None:
        return KernelState(
            False, f"no kernels: {_build_note(folder) or f'none in {folder}: pip install . builds them'}"
        )
    try:
        import torch

        module = _import_extension(path)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return KernelState(False, f"no kernels: {path.name} does not load: {_first_line(error)}")
    build = module.build_info()
    cuda = folder / "_C_cuda.so"
    devices = {"cpu", "meta"}
    if not cuda.exists():
        reason = f"CPU kernels; no CUDA kernels: {_build_note(folder) or 'they were not built'}"
    elif torch.version.cuda is None:
        reason = "CPU kernels; no CUDA kernels: this torch is built without CUDA"
    else:
        try:
            torch.ops.load_library(str(cuda))
            devices.add("cuda")
            reason = f"CPU and CUDA kernels ({build['cuda_architectures']})"
        except (OSError, RuntimeError) as error:
            reason = f"CPU kernels; no CUDA kernels: _C_cuda does not load: {_first_line(error)}"
    return KernelState(True, reason, frozenset(devices), build)


def _build_note(folder: Path) -> str:
    """Why the build left kernels out, as setup.py wrote it."""
    path = folder / "_kernels.txt"
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def _import_extension(path: Path) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader("cvhpe._C", str(path))
    spec = importlib.util.spec_from_file_location("cvhpe._C", path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules["cvhpe._C"] = module
    return module


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def has_kernels(device_type: str) -> bool:
    """Whether the kernels take tensors of a device type. The first miss of a device type is logged.

    >>> has_kernels("no-such-device")
    False
    """
    state = kernel_state()
    if device_type in state.devices:
        return True
    if state.loaded and device_type not in _reported:
        _reported.add(device_type)
        log.warning(
            "no kernels for %s tensors, the reference implementations are in use: %s", device_type, state.reason
        )
    return False


def uses_kernels(*tensors: Tensor) -> bool:
    """Whether an operator on these tensors runs as a kernel.

    float64 and ``torch.func`` transforms (grad, vmap) go to the reference implementations.
    """
    import torch

    if torch._C._are_functorch_transforms_active() or any(t.dtype == torch.float64 for t in tensors):
        return False
    return has_kernels(tensors[0].device.type)


def below_autograd() -> AbstractContextManager[None]:
    """A context in which an operator skips its own autograd registration, for use inside an autograd function."""
    import torch

    return torch._C._AutoDispatchBelowAutograd()


def once_differentiable(op: str, grads: Iterable[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Gradients that raise when they are differentiated again.

    ``torch.autograd.function.once_differentiable`` does the same with some microseconds more in every backward.

    Args:
        op: Name of the operator, for the message.
        grads: Gradients of its inputs.

    Returns:
        The gradients, as they are where ``create_graph`` was not asked for.
    """
    import torch

    if not torch.is_grad_enabled():
        return tuple(grads)
    message = f"{op}: the kernel has no second derivative; the reference implementation has (CVHPE_OPS=reference)"
    return tuple(
        None if g is None else torch._C._functions.DelayedError(message, 1)(g.detach().requires_grad_()) for g in grads
    )
