"""A hook of mkdocs: the Sphinx roles of docstrings (``:class:`cvhpe.Run```) become links of the site."""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:mod|class|func|meth|data|attr|exc):<code>~?([\w.]+)(?:\(\))?</code>")


def _link(role: re.Match[str]) -> str:
    path = role[1]
    return f'<autoref optional identifier="{path}"><code>{path.rpartition(".")[2]}</code></autoref>'


def on_page_content(html: str, **_: Any) -> str:
    """Replace roles; a name that the site does not describe stays plain code."""
    return _ROLE.sub(_link, html)
