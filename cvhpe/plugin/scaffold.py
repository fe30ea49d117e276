"""``cvhpe plugins new``: a complete plugin package, written from the files in ``templates``."""

from __future__ import annotations

import keyword
import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from cvhpe.errors import UserError
from cvhpe.plugin.registry import Registry, installed

_FILES = {
    "pyproject.toml.in": "pyproject.toml",
    "README.md.in": "README.md",
    "module.py.in": "cvhpe_$name.py",
    "test_module.py.in": "test_$name.py",
}


def _check_name(name: str) -> None:
    # Stricter than for a modality: a__b and a_b would give the same distribution name, and a_ an invalid one.
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        rule = "use lower_snake_case: a letter, then letters, digits and single underscores between them"
        raise UserError(f"plugin name {name!r}: {rule}, as in `cvhpe plugins new thermal`")
    if keyword.iskeyword(name):
        raise UserError(f"plugin name {name!r} is a Python keyword; choose another name")
    # Data set names are excluded too: `plugins check NAME` takes both.
    builtin = [p for p in installed() if p.is_builtin]
    if name in {p.name for p in builtin} | set(Registry(builtin).datasets):
        raise UserError(f"plugin name {name!r} is a built-in's; choose another name")


def write_plugin(name: str, out: Path | None = None) -> Path:
    """Write the plugin package of a new modality.

    Args:
        name: The modality's name, lower_snake_case.
        out: Folder to write; by default ``./cvhpe-NAME``.

    Returns:
        The folder.

    Raises:
        UserError: If the name is invalid or taken, or the folder is not empty or cannot be written.
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
        folder.mkdir(parents=True, exist_ok=True)
        for template, target in _FILES.items():
            text = (files("cvhpe.plugin") / "templates" / template).read_text(encoding="utf-8")
            path = folder / Template(target).substitute(values)
            path.write_text(Template(text).substitute(values), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return folder
