"""What the page for plugin authors says is done as it stands, in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import docs_runner
import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.timeout(900)
def test_the_plugin_authors_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CVHPE_DISABLE_PLUGINS", "CVHPE_STRICT_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)
    docs_runner.run(DOCS / "plugin-authors.md", tmp_path, docs_runner.environment(tmp_path / "venv"))


def test_a_page_may_not_hold_what_nobody_runs(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nimport cvhpe\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:1: a block of 'python' that nobody runs"):
        docs_runner.run(page, tmp_path, tmp_path)


def test_a_failing_command_names_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```sh\ntrue\nls no-such-file\ntrue\n```\n")
    with pytest.raises(AssertionError, match=r"(?s)page\.md:3 ended with 2.*no-such-file"):
        docs_runner.run(page, tmp_path, tmp_path)
