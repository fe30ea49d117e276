"""Distributions made of a folder on ``sys.path``: a module and its ``.dist-info``, as pip leaves them."""

from __future__ import annotations

import sys
from pathlib import Path

FAULTY = Path(__file__).parent / "faulty_plugins"
HERE = Path(__file__).parents[1]

# What `cvhpe plugins list` must say of each faulty plugin.
REASONS = {
    "importerr": "ModuleNotFoundError: No module named 'not_a_module' (cvhpe_importerr.py:3)",
    "exits": "wants to end the program: exit('licence check failed') (cvhpe_exits.py:5)",
    "exitsinhook": "wants to end the program: exit(3) (cvhpe_exitsinhook.py:10)",
    "typohook": "unknown hook 'cvhpe_modalites': did you mean 'cvhpe_modalities'?",
    "unmarked": "cvhpe_modalities() lacks the decorator @cvhpe.hookimpl",
    "hookless": "has no hook; write cvhpe_modalities or cvhpe_datasets",
    "wrongarg": "Argument(s) {'config'} are declared in the hookimpl but can not be found in the hookspec",
    "raises": "RuntimeError: no camera found (cvhpe_raises.py:8)",
    "raiseslate": "OSError: calibration file missing (cvhpe_raiseslate.py:11)",
    "wrongtype": "cvhpe_modalities() gave 'oops' of type str; expected Modality",
    "notalist": "return a list",
    "nothing": "cvhpe_modalities() gave None; return a list",
    "future": "'event' is written for API 99, this cvhpe speaks 0 and 1; update cvhpe",
    "badname": "modality name 'Thermal Camera': use lower_snake_case",
    "twice": "supplies modality 'dots' twice",
    "takesrgb": "modality 'rgb' is a built-in's name; call it otherwise",
    "takesrhd": "data set 'rhd' is a built-in's name; call it otherwise",
}


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
from helpers.example_modalities import HONEST_DOTS
from cvhpe import hookimpl

@hookimpl
def cvhpe_modalities():
    return [dataclasses.replace(HONEST_DOTS, name={name!r}, api={api})]
"""


def honest(name: str, api: int = 1) -> str:
    """Source of a plugin that supplies one good modality."""
    return HONEST.format(name=name, api=api)
