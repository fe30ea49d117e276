"""One latent space for every modality of a hand: RGB, depth, 2D and 3D joints, and those of plugins.

The public names below are imported on first use, so that ``cvhpe --help`` imports no torch. A plugin
needs only these, :mod:`cvhpe.models.blocks`, :mod:`cvhpe.models.backbones`, :mod:`cvhpe.models.losses`,
:mod:`cvhpe.ops`, :mod:`cvhpe.geometry.skeleton` and :mod:`cvhpe.testing`.

>>> import cvhpe
>>> cvhpe.View.identity(2).angle
tensor([0., 0.])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvhpe.api import HandModel, load
    from cvhpe.errors import DataError, UserError
    from cvhpe.models.vae import CrossModalVAE
    from cvhpe.plugin.contract import Modality, ModelShape, Posterior, View
    from cvhpe.plugin.registry import hookimpl
    from cvhpe.plugin.sample import DatasetSpec, Sample

_HOME = {
    "CrossModalVAE": "models.vae:CrossModalVAE",
    "DataError": "errors:DataError",
    "DatasetSpec": "plugin.sample:DatasetSpec",
    "HandModel": "api:HandModel",
    "Modality": "plugin.contract:Modality",
    "ModelShape": "plugin.contract:ModelShape",
    "Posterior": "plugin.contract:Posterior",
    "Sample": "plugin.sample:Sample",
    "UserError": "errors:UserError",
    "View": "plugin.contract:View",
    "hookimpl": "plugin.registry:hookimpl",
    "load": "api:load",
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
