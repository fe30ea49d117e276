"""One latent space for everything a hand can be seen as: RGB, depth, 2D and 3D joints, and what plugins add.

The public names below are loaded when first used, so that ``cvhpe --help`` imports no torch. A plugin
needs nothing else than these, :mod:`cvhpe.nn`, :mod:`cvhpe.losses`, :mod:`cvhpe.ops`, :mod:`cvhpe.skeleton` and
:mod:`cvhpe.testing`.

>>> import cvhpe
>>> cvhpe.View.identity(2).angle
tensor([0., 0.])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvhpe.data.sample import DatasetSpec, Sample
    from cvhpe.errors import DataError, UserError
    from cvhpe.modality import Modality, ModelShape, Posterior, View
    from cvhpe.model import CrossModalVAE
    from cvhpe.registry import hookimpl
    from cvhpe.use import HandModel, load

_HOME = {
    "CrossModalVAE": "model:CrossModalVAE",
    "DataError": "errors:DataError",
    "DatasetSpec": "data.sample:DatasetSpec",
    "HandModel": "use:HandModel",
    "Modality": "modality:Modality",
    "ModelShape": "modality:ModelShape",
    "Posterior": "modality:Posterior",
    "Sample": "data.sample:Sample",
    "UserError": "errors:UserError",
    "View": "modality:View",
    "hookimpl": "registry:hookimpl",
    "load": "use:load",
}

__all__ = [
    "CrossModalVAE",
    "DataError",
    "DatasetSpec",
    "HandModel",
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
    module, _, attribute = _HOME[name].partition(":")
    return getattr(import_module(f"cvhpe.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
