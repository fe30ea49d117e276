"""Plain settings from TOML files and ``--set``, and how several sources are merged."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cvhpe.errors import UserError


def parse_value(text: str) -> Any:
    """The value of ``--set name=value``: TOML if it parses as TOML, else the text itself.

    >>> parse_value("[1, 2]"), parse_value("1e-3"), parse_value("cosine")
    ([1, 2], 0.001, 'cosine')
    """
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def assign(settings: dict[str, Any], assignment: str) -> None:
    """Write one ``--set`` assignment into nested settings.

    Args:
        settings: changed in place.
        assignment: ``name=value``; dots reach into tables.

    Raises:
        UserError: If it is no assignment, or reaches into a setting that is no table.

    Example:
        >>> settings = {"lr": 1e-4}
        >>> assign(settings, "augmentation.flip=0")
        >>> settings
        {'lr': 0.0001, 'augmentation': {'flip': 0}}
    """
    name, equals, value = assignment.partition("=")
    if not equals or not name.strip():
        raise UserError(f"--set {assignment!r}: write it as name=value, as in --set lr=1e-3")
    *tables, last = name.strip().split(".")
    for table in tables:
        settings = settings.setdefault(table, {})
        if not isinstance(settings, dict):
            raise UserError(f"--set {assignment!r}: {table!r} has no settings below it")
    settings[last] = parse_value(value.strip())


def read_toml(path: Path) -> dict[str, Any]:
    """The settings of a TOML file.

    Args:
        path: the file.

    Returns:
        Name -> value, nested.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"--config {path}: {error}") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings in which those of ``over`` win.

    Args:
        base: name -> value.
        over: name -> value; tables are merged name by name.

    Returns:
        New settings.

    Example:
        >>> merge({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}})
        {'a': {'x': 1, 'y': 3}, 'b': 1}
    """
    merged = dict(base)
    for name, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(name), Mapping):
            value = merge(merged[name], value)
        merged[name] = value
    return merged
