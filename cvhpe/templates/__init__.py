"""Templates that ship with the package, and what writes them out."""

from __future__ import annotations

import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from cvhpe.errors import UserError
from cvhpe.registry import installed

_FILES = {
    "pyproject.toml.in": "pyproject.toml",
    "README.md.in": "README.md",
    "module.py.in": "cvhpe_$name.py",
    "test_module.py.in": "test_$name.py",
}


def write_plugin(name: str, out: Path | None = None) -> Path:
    """Write the plugin package of a new modality ``name`` into ``out`` (``./cvhpe-NAME``) and return the folder.

    Raises :class:`UserError` where the name cannot be one, or the folder holds something already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"plugin name {name!r}: use lower_snake_case, as in `cvhpe plugins new thermal`")
    if name in {p.name for p in installed() if p.is_builtin}:
        raise UserError(f"plugin name {name!r} is a built-in's; call the modality otherwise")
    folder = out or Path(f"cvhpe-{name.replace('_', '-')}")
    values = {
        "name": name,
        "dist": f"cvhpe-{name.replace('_', '-')}",
        "Name": "".join(part.capitalize() for part in name.split("_")),
        "NAME": name.upper(),
        "version": version("cvhpe"),
        "folder": str(folder),
    }
    try:
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder}: is not empty; name another folder with --out")
        for template, target in _FILES.items():
            text = (files("cvhpe.templates") / "plugin" / template).read_text(encoding="utf-8")
            path = folder / Template(target).substitute(values)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template(text).substitute(values), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return folder
