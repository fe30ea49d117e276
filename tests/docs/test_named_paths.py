"""Files and modules that a page names exist."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "RESULTS.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
NO_MODULES = {"cvhpe.modalities", "cvhpe.json"}  # an entry point group, a file


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_paths_and_modules_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = "cvhpe|plugins|tests|benchmarks|csrc|docs"
    files = re.findall(rf"`((?:{folders})/[\w./-]+)`|python ((?:{folders})/[\w./-]+)", text)
    missing = [path for path in {a or b for a, b in files} if not (ROOT / path).exists()]
    for name in set(re.findall(r"^::: (cvhpe[\w.]*)$|`(cvhpe(?:\.\w+)+)`", text, re.M)):
        dotted = name[0] or name[1]
        if dotted in NO_MODULES:
            continue
        try:
            pkgutil.resolve_name(dotted)
        except (ImportError, AttributeError):
            missing.append(dotted)
    assert not missing
