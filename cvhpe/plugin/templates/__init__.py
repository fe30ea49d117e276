"""Templates that ship with the package, and what writes them out."""

from __future__ import annotations

import keyword
import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from cvhpe.data.datasets.builtin import cvhpe_datasets
from cvhpe.errors import UserError
from cvhpe.plugin.registry import installed

_FILES = {
    "pyproject.toml.in": "pyproject.toml",
    "README.md.in": "README.md",
    "module.py.in": "cvhpe_$name.py",
    "test_module.py.in": "test_$name.py",
}


def _check_name(name: str) -> None:
    # Stricter than a modality's name has to be: a__b and a_b would be one distribution, a_ none.
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        rule = "use lower_snake_case: a letter, then letters, digits and single underscores between them"
        raise UserError(f"plugin name {name!r}: {rule}, as in `cvhpe plugins new thermal`")
    if keyword.iskeyword(name):
        raise UserError(f"plugin name {name!r} is a word of Python's; call the modality otherwise")
    # Those of data sets too: `plugins check NAME` and `--data NAME` would not tell one from the other.
    if name in {p.name for p in installed() if p.is_builtin} | {spec.name for spec in cvhpe_datasets()}:
        raise UserError(f"plugin name {name!r} is a built-in's; call the modality otherwise")


def write_plugin(name: str, out: Path | None = None) -> Path:
    """Write the plugin package of a new modality ``name`` into ``out`` (``./cvhpe-NAME``) and return the folder.

    Raises :class:`UserError` where the name cannot be one, or the folder holds something already.
    """
    _check_name(name)
    folder = out or Path(f"cvhpe-{name.replace('_', '-')}")
    values = {
        "name": name,
        "dist": f"cvhpe-{name.replace('_', '-')}",
        "NAME": name.upper(),
        "version": version("cvhpe"),
    }
    try:
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder}: is not empty; name another folder with --out")
        for template, target in _FILES.items():
            text = (files("cvhpe.plugin.templates") / "plugin" / template).read_text(encoding="utf-8")
            path = folder / Template(target).substitute(values)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template(text).substitute(values), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return folder
