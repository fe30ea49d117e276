"""One latent space for everything a hand can be seen as: RGB, depth, 2D and 3D joints, and what plugins add.

The public names below are loaded when first used, so that ``cvhpe --help`` imports no torch. A plugin
needs nothing else than these, :mod:`cvhpe.nn`, :mod:`cvhpe.ops` and :mod:`cvhpe.testing`.

>>> import cvhpe
>>> cvhpe.View.identity(2).angle
tensor([0., 0.])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvhpe.checkpoint import load
    from cvhpe.data.sample import DatasetSpec, Sample
    from cvhpe.errors import DataError, UserError
    from cvhpe.modality import Modality, ModelShape, Posterior, View
    from cvhpe.model import CrossModalVAE
    from cvhpe.registry import hookimpl

_HOME = {
    "CrossModalVAE": "model",
    "DataError": "errors",
    "DatasetSpec": "data.sample",
    "Modality": "modality",
    "ModelShape": "modality",
    "Posterior": "modality",
    "Sample": "data.sample",
    "UserError": "errors",
    "View": "modality",
    "hookimpl": "registry",
    "load": "checkpoint",
}

__all__ = [
    "CrossModalVAE",
    "DataError",
    "DatasetSpec",
    "Modality",
    "ModelShape",
    "Posterior",
    "Sample",
    "UserError",
    "View",
    "hookimpl",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cvhpe' has no attribute {name!r}")
    return getattr(import_module(f"cvhpe.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
