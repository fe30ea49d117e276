"""``NAME[:PATH]``, how a data set and its place are named on the command line and in settings."""

from __future__ import annotations

from pathlib import Path

from cvhpe.errors import UserError
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
