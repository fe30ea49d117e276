"""``NAME[:PATH[?key=value&...]]``: how a data set, its place and its options are named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cvhpe.errors import DataError, UserError, nearest
from cvhpe.plugin.registry import registry
from cvhpe.plugin.sample import DatasetSpec


def parse_source(source: str) -> tuple[DatasetSpec, Path | None]:
    """Split ``NAME[:PATH]`` into the data set's specification and its path.

    Args:
        source: such as ``rhd:/data/RHD_published_v2``; ``~`` in the path is expanded.

    Returns:
        The specification, and the path or None where none is given.

    Raises:
        UserError: If no such data set is installed, or it needs a path and has none.

    Example:
        >>> spec, path = parse_source("rhd:/data/RHD_published_v2")
        >>> spec.name, str(path)
        ('rhd', '/data/RHD_published_v2')
    """
    name, _, path = source.partition(":")
    spec = registry().dataset(name)
    if spec.needs_path and not path:
        raise UserError(f"data set {name!r} needs its path: {name}:PATH")
    return spec, Path(path).expanduser() if path else None


def split_query(path: Path) -> tuple[Path, str]:
    """Split ``PATH?QUERY`` into the path and the query; a path that exists is taken as it is.

    Example:
        >>> path, query = split_query(Path("/data/msra?subject=3"))
        >>> str(path), query
        ('/data/msra', 'subject=3')
    """
    if "?" not in str(path) or path.exists():
        return path, ""
    root, _, query = str(path).rpartition("?")
    return Path(root), query


def parse_options(path: Path | None, name: str, defaults: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
    """Split ``PATH?key=value&key=value`` into the path and the options of a data set.

    Args:
        path: as the user gave it.
        name: the data set's name, for messages.
        defaults: every option that the data set has, with its default.

    Returns:
        The path without options, and all options.

    Raises:
        DataError: If there is no path, or an option that the data set lacks.

    Example:
        >>> parse_options(Path("/data/msra?subject=3"), "msra", {"subject": "0"})[1]
        {'subject': '3'}
    """
    if path is None:
        raise DataError(f"data set {name!r} needs its folder: --data {name}:PATH")
    root, query = split_query(path)
    options = dict(defaults)
    for item in query.split("&") if query else []:
        key, equals, value = item.partition("=")
        if key not in defaults or not equals:
            known = nearest(key, defaults) if defaults else "it has none"
            raise DataError(f"data set {name!r} has no option {item!r} in {path}; {known}")
        options[key] = value
    return root, options
