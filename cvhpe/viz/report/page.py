"""Writing the page: one HTML file with its style, its scripts and its data inside."""

from __future__ import annotations

import html
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.errors import UserError
from cvhpe.io.atomic import write_text

SCRIPTS = ("hand.js", "charts.js", "space.js", "page.js")
MOST_BYTES = 10_000_000


def plain(value: Any) -> Any:
    """Numbers as JSON can say them: four significant digits, None for what is no number.

    >>> plain({"a": np.array([1.23456, np.nan]), "b": np.int64(3)})
    {'a': [1.235, None], 'b': 3}
    """
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(f"{float(value):.4g}") if math.isfinite(value) else None
    return value


def render(data: dict[str, Any]) -> str:
    """The page as text."""
    assets = files("cvhpe.viz.report") / "assets"

    def read(name: str) -> str:
        return (assets / name).read_text(encoding="utf-8")

    # "</script>" in a string would end the block that holds it
    text = json.dumps(plain(data), separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    page = read("page.html")
    for mark, filling in (
        ("{{title}}", html.escape(f"{data['run']['name']} – cvhpe report")),
        ("{{style}}", read("page.css")),
        ("{{script}}", "\n".join(read(s) for s in SCRIPTS)),
        ("{{data}}", text),
    ):
        page = page.replace(mark, filling)
    return page


def write(data: dict[str, Any], path: Path) -> int:
    """Write the page; returns its size in bytes."""
    page = render(data)
    size = len(page.encode())
    if size > MOST_BYTES:
        raise UserError(f"{path}: the report would have {size / 1e6:.1f} MB, more than a page should")
    write_text(path, page)
    return size
