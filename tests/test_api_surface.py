"""Every public name and signature, pinned: ``tests/api_surface.txt`` changes on purpose or not at all.

``python tests/test_api_surface.py`` writes the file anew; what it changes belongs into ``CHANGELOG.md``, and what it
takes away waits for the next API version.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

PINNED = Path(__file__).with_name("api_surface.txt")
MODULES = (
    "cvhpe",
    "cvhpe.models.losses",
    "cvhpe.models.blocks",
    "cvhpe.models.backbones",
    "cvhpe.ops",
    "cvhpe.geometry.skeleton",
    "cvhpe.testing",
)


def public_names(module: ModuleType) -> list[str]:
    """``__all__``, or what the module itself defines without a leading underscore."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    own = (n for n, v in vars(module).items() if getattr(v, "__module__", module.__name__) == module.__name__)
    return sorted(
        n for n in own if not n.startswith("_") and not inspect.ismodule(getattr(module, n)) and n != "annotations"
    )


def signature(value: Any) -> str:
    """Of what is written here; what comes from another package changes with that package."""
    code = value.__init__ if inspect.isclass(value) else value
    return str(inspect.signature(value)) if getattr(code, "__module__", "").startswith("cvhpe") else ""


def described(name: str, value: Any) -> Iterator[str]:
    """One line for a name; for a dataclass one more for each field and method."""
    if inspect.isclass(value) and dataclasses.is_dataclass(value):
        yield f"{name}: dataclass"
        for field in dataclasses.fields(value):
            has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            if not field.name.startswith("_"):
                yield f"{name}.{field.name}: {field.type}{' (optional)' if has_default else ''}"
        for method, code in vars(value).items():
            if not method.startswith("_") and (callable(code) or isinstance(code, staticmethod)):
                yield f"{name}.{method}{signature(getattr(value, method))}"
    elif inspect.isclass(value) and issubclass(value, tuple) and hasattr(value, "_fields"):
        yield f"{name}: tuple of {', '.join(value._fields)}"
    elif inspect.isclass(value) and not issubclass(value, enum.Enum):
        yield f"{name}{signature(value)}: class"
    elif callable(value):
        yield f"{name}{signature(value)}"
    else:
        yield f"{name}: {type(value).__name__}"


def surface() -> str:
    lines = ["cvhpe.plugin.registry.registry() -> 'Registry'"]
    for module in map(importlib.import_module, MODULES):
        for name in public_names(module):
            lines += described(f"{module.__name__}.{name}", getattr(module, name))
    return "\n".join(lines) + "\n"


def test_the_public_names_are_the_pinned_ones() -> None:
    assert surface() == PINNED.read_text(encoding="utf-8"), f"run python {Path(__file__).name} if this is on purpose"


def test_public_names_are_lazy() -> None:
    code = "import sys, cvhpe; assert 'View' in dir(cvhpe); assert 'torch' not in sys.modules; cvhpe.View.identity(1)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    import cvhpe

    assert not hasattr(cvhpe, "Modalities")


if __name__ == "__main__":
    PINNED.write_text(surface(), encoding="utf-8")
