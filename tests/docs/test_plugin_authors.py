"""Every command and file of the tutorial for plugin authors, run in a separate environment."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from helpers import docs_runner

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_plugin_authors_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CVHPE_DISABLE_PLUGINS", "CVHPE_STRICT_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)
    binaries = docs_runner.environment(tmp_path / "venv")
    docs_runner.check_builds(binaries)
    output = docs_runner.run(DOCS / "plugin-authors.md", tmp_path, binaries)
    for package in ("thermal", "fingertips"):
        assert re.search(rf"│ {package} +│ cvhpe-{package} 0\.1\.0 +│ ok ", output), "it is listed"
        assert f"{package} to joints3d, protocol" in output, "its run was opened again and scored"
    assert "torch.Size([4, 21, 3])" in output, "a program opened it"


def test_an_old_setuptools_is_reported(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 65.5.0\n")
    fake.chmod(0o755)
    with pytest.raises(AssertionError, match=r"setuptools there is 65\.5\.0, but 70\.1"):
        docs_runner.check_builds(tmp_path)


def test_a_block_that_is_not_run_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nimport cvhpe\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:1: a block of 'python', which is not run"):
        docs_runner.run(page, tmp_path, tmp_path)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_failing_command_names_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```sh\ntrue\nls no-such-file\ntrue\n```\n")
    with pytest.raises(AssertionError, match=r"(?s)page\.md:3 ended with 2.*no-such-file"):
        docs_runner.run(page, tmp_path, tmp_path)
