"""Finds and loads the compiled kernels, and says what came of it; nothing here is silent.

``_C`` (operators, CPU kernels) and ``_C_cuda`` (CUDA kernels, only in a build with nvcc) lie beside this package,
or in the folder ``CVHPE_LIBRARY_DIR`` names. ``CVHPE_OPS=twin`` makes the pure-torch twins serve although there are
kernels; ``CVHPE_OPS=kernels`` makes it an error that there are none. ``_C_autograd`` (autograd nodes in C++) is for the
one torch release it was built against; Python nodes do the same otherwise, or where ``CVHPE_NODES=python`` asks.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cvhpe.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("cvhpe.ops")


@dataclass(frozen=True)
class State:
    """What became of the kernels.

    built: a ``_C`` library is there.
    loaded: its operators are registered and used.
    reason: one line for people: what serves, and where kernels do not, why not.
    devices: the device types whose tensors the kernels take; all others go to the twins.
    build: how ``_C`` was built (``torch.ops.cvhpe`` aside, all it exports): compiler, torch, architectures.
    nodes: the operators have their autograd nodes in C++.
    """

    built: bool
    loaded: bool
    reason: str
    devices: frozenset[str] = frozenset()
    build: Mapping[str, str] = field(default_factory=dict)
    nodes: bool = False


def folder() -> Path:
    """Where the libraries are looked for."""
    return Path(os.environ.get("CVHPE_LIBRARY_DIR") or Path(__file__).parents[1])


def _find() -> Path | None:
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = folder() / f"_C{suffix}"
        if path.exists():
            return path
    return None


def _build_note() -> str:
    """Why the build left kernels out, as setup.py wrote it."""
    path = folder() / "_kernels.txt"
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


_state: State | None = None  # a plain global: torch.compile reads it, and could not look through a cache


def load() -> State:
    """Load the kernels once and tell the state; never raises for their absence unless CVHPE_OPS=kernels."""
    global _state
    if _state is None:
        _state = _first_load()
    return _state


def _first_load() -> State:
    wish = os.environ.get("CVHPE_OPS", "")
    if wish not in ("", "twin", "kernels"):
        raise UserError(f"CVHPE_OPS={wish!r}: use 'twin', 'kernels' or leave it unset")
    state = _load(wish)
    if not state.loaded:
        if wish == "kernels":
            raise UserError(f"CVHPE_OPS=kernels, but {state.reason}")
        log.warning("kernels not in use, the pure-torch twins serve: %s", state.reason)
    return state


def _load(wish: str) -> State:
    path = _find()
    if wish == "twin":
        return State(path is not None, False, "CVHPE_OPS=twin asks for the twins")
    if path is None:
        return State(False, False, f"no kernels: {_build_note() or 'they were never built: pip install .'}")
    try:
        import torch
    except ImportError as error:
        return State(True, False, f"torch cannot be imported: {error}")
    try:
        module = _import(path)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return State(True, False, f"{path.name} does not load: {_first_line(error)}")
    build = module.build_info()
    devices = {"cpu", "meta"}
    cuda = folder() / "_C_cuda.so"
    if not cuda.exists():
        about = f"CPU kernels; no CUDA kernels: {_build_note() or 'they were not built'}"
    elif torch.version.cuda is None:
        about = "CPU kernels; _C_cuda is not loaded: this torch has no CUDA"
    else:
        try:
            torch.ops.load_library(str(cuda))
            devices.add("cuda")
            about = f"CPU and CUDA kernels ({build['cuda_architectures']})"
        except (OSError, RuntimeError) as error:
            about = f"CPU kernels; _C_cuda does not load: {_first_line(error)}"
    why_not = _load_nodes(build["torch"])
    if why_not:
        about = f"{about}; Python nodes: {why_not}"
    return State(True, True, about, frozenset(devices), build, not why_not)


def _load_nodes(built_against: str) -> str:
    """Load the C++ nodes; why not, where they are not. Their interface to torch is another in every release."""
    import torch

    wish, path = os.environ.get("CVHPE_NODES", ""), folder() / "_C_autograd.so"
    if wish not in ("", "python"):
        raise UserError(f"CVHPE_NODES={wish!r}: use 'python' or leave it unset")
    if wish:
        return "CVHPE_NODES=python asks for them"
    if not path.exists():
        return "no _C_autograd was built (torch before 2.14, or its headers did not compile)"
    here = torch.__version__.split("+")[0]
    if here != built_against.split("+")[0]:
        return f"_C_autograd was built against torch {built_against}, this is {here}"
    try:
        torch.ops.load_library(str(path))
    except (OSError, RuntimeError) as error:
        return f"_C_autograd does not load: {_first_line(error)}"
    return ""


def _import(path: Path):
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


_told: set[str] = set()  # device types whose lack of kernels has been logged


def serves(device: str) -> bool:
    """Whether the kernels take tensors of this device type; the first no for a device is logged.

    >>> serves("no-such-device")
    False
    """
    state = load()
    if device in state.devices:
        return True
    if state.loaded and device not in _told:
        _told.add(device)
        log.warning("no kernels for %s tensors, the pure-torch twins serve: %s", device, state.reason)
    return False


def transformed() -> bool:
    """Whether torch.func (grad, vmap, ...) is at work: it looks through pure torch alone, so the twins serve."""
    import torch

    return torch._C._are_functorch_transforms_active()


def below_autograd():
    """Call an operator past its autograd registration, inside our own autograd function."""
    import torch

    return torch._C._AutoDispatchBelowAutograd()


def once_differentiable(op: str, grads: Iterable[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Gradients that raise when they are differentiated again, rather than count as constants.

    torch.autograd.function.once_differentiable does so too, and costs microseconds in every backward.
    """
    import torch

    if not torch.is_grad_enabled():  # the usual case: nobody asked for create_graph
        return tuple(grads)
    message = f"{op}: its gradient cannot be differentiated again; the twins' can (CVHPE_OPS=twin)"
    return tuple(
        None if g is None else torch._C._functions.DelayedError(message, 1)(g.detach().requires_grad_()) for g in grads
    )
