"""Distributions made of a folder on ``sys.path``: a module and its ``.dist-info``, as pip leaves them."""

from __future__ import annotations

import sys
from pathlib import Path

FAULTY = Path(__file__).parent / "faulty_plugins"
HERE = Path(__file__).parent


def install(
    site: Path, name: str, source: str | None = None, *, version: str = "1.0", entry_points: str | None = None
) -> None:
    """Write the distribution ``cvhpe-NAME`` with the module ``cvhpe_NAME``, by default one of ``faulty_plugins``.

    A module is imported once a process: it is forgotten here, so that each test runs its own.
    """
    module = f"cvhpe_{name}"
    sys.modules.pop(module, None)
    text = (FAULTY / f"{name}.py").read_text() if source is None else source
    (site / f"{module}.py").write_text(text)
    info = site / f"{module}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: cvhpe-{name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points or f"[cvhpe.modalities]\n{name} = {module}\n")


HONEST = """
import dataclasses
from example_modalities import HONEST_DOTS
from cvhpe import hookimpl

@hookimpl
def cvhpe_modalities():
    return [dataclasses.replace(HONEST_DOTS, name={name!r}, api={api})]
"""


def honest(name: str, api: int = 1) -> str:
    """Source of a plugin that supplies one good modality."""
    return HONEST.format(name=name, api=api)
