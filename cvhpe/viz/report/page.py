"""The report page: one HTML file that contains its style, scripts and data."""

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

SCRIPTS = ("hand.js", "charts.js", "latents.js", "page.js")
MAX_BYTES = 10_000_000


def to_json(value: Any) -> Any:
    """Convert numpy values for JSON: four significant digits, None for what is not finite.

    >>> to_json({"a": np.array([1.23456, np.nan]), "b": np.int64(3)})
    {'a': [1.235, None], 'b': 3}
    """
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(f"{float(value):.4g}") if math.isfinite(value) else None
    return value


def report_html(data: dict[str, Any]) -> str:
    """The page of the data of :func:`cvhpe.viz.report.gather.gather_report`."""
    assets = files("cvhpe.viz.report") / "assets"

    def read(name: str) -> str:
        return (assets / name).read_text(encoding="utf-8")

    # "</script>" in a string would end the script element
    text = json.dumps(to_json(data), separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    page = read("page.html")
    for placeholder, content in (
        ("{{title}}", html.escape(f"{data['run']['name']} – cvhpe report")),
        ("{{style}}", read("page.css")),
        ("{{script}}", "\n".join(read(s) for s in SCRIPTS)),
        ("{{data}}", text),
    ):
        page = page.replace(placeholder, content)
    return page


def write_report(data: dict[str, Any], path: Path) -> int:
    """Write the page.

    Args:
        data: What :func:`cvhpe.viz.report.gather.gather_report` returned.
        path: The HTML file.

    Returns:
        Its size in bytes.

    Raises:
        UserError: The page is larger than :data:`MAX_BYTES`, or cannot be written.
    """
    page = report_html(data)
    size = len(page.encode())
    if size > MAX_BYTES:
        raise UserError(f"{path}: the report would have {size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f} MB")
    write_text(path, page)
    return size
