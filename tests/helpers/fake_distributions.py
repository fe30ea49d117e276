"""Fake installed distributions: a module and its ``.dist-info`` in a folder on ``sys.path``."""

from __future__ import annotations

import sys
from pathlib import Path

FAULTY = Path(__file__).parent / "faulty_plugins"
HERE = Path(__file__).parents[1]

REASONS = {
    "importerr": "ModuleNotFoundError: No module named 'not_a_module' (cvhpe_importerr.py:3)",
    "exits": "calls exit('licence check failed') (cvhpe_exits.py:5)",
    "exitsinhook": "calls exit(3) (cvhpe_exitsinhook.py:10)",
    "typohook": "unknown hook 'cvhpe_modalites': did you mean 'cvhpe_modalities'?",
    "unmarked": "cvhpe_modalities() lacks the decorator @cvhpe.hookimpl",
    "hookless": "has no hook; write cvhpe_modalities or cvhpe_datasets",
    "wrongarg": "Argument(s) {'config'} are declared in the hookimpl but can not be found in the hookspec",
    "raises": "RuntimeError: no camera found (cvhpe_raises.py:8)",
    "raiseslate": "OSError: calibration file missing (cvhpe_raiseslate.py:11)",
    "wrongtype": "cvhpe_modalities() returned 'oops' of type str; expected Modality",
    "notalist": "return a list",
    "nothing": "cvhpe_modalities() returned None; return a list",
    "future": "'event' is written for API 99, this cvhpe supports 0 and 1; update cvhpe",
    "badname": "modality name 'Thermal Camera': use lower_snake_case",
    "twice": "supplies modality 'dots' twice",
    "takesrgb": "modality 'rgb' is a built-in's name; choose another name",
    "takesrhd": "data set 'rhd' is a built-in's name; choose another name",
}
"""Faulty plugin -> part of the error that `cvhpe plugins list` prints."""


def install(
    site: Path, name: str, source: str | None = None, *, version: str = "1.0", entry_points: str | None = None
) -> None:
    """Write the distribution ``cvhpe-NAME`` with the module ``cvhpe_NAME``, by default one of ``faulty_plugins``.

    An earlier import of the module is dropped, so that each test imports its own.
    """
    module = f"cvhpe_{name}"
    sys.modules.pop(module, None)
    text = (FAULTY / f"{name}.py").read_text() if source is None else source
    (site / f"{module}.py").write_text(text)
    info = site / f"{module}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: cvhpe-{name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points or f"[cvhpe.modalities]\n{name} = {module}\n")


VALID = """
import dataclasses
from helpers.example_modalities import VALID_DOTS
from cvhpe import hookimpl

@hookimpl
def cvhpe_modalities():
    return [dataclasses.replace(VALID_DOTS, name={name!r}, api={api})]
"""


def valid_source(name: str, api: int = 1) -> str:
    """Source of a plugin that supplies one valid modality."""
    return VALID.format(name=name, api=api)
