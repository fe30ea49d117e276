"""The pages for users do what they say, as they stand."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest
from helpers import docs_runner

from cvhpe.data.verify.checks import is_fatal, verify
from cvhpe.plugin.registry import registry

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
HERE = Path(sysconfig.get_path("scripts"))


@pytest.mark.timeout(600)
def test_the_page_on_python_works(tmp_path: Path) -> None:
    assert docs_runner.run(DOCS / "how-to" / "python-api.md", tmp_path, HERE)


@pytest.mark.timeout(600)
def test_the_page_on_export_works(tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="ONNX is not installed (extra 'export')")
    docs_runner.run(DOCS / "how-to" / "export.md", tmp_path, HERE)
    assert (tmp_path / "lifter.onnx").stat().st_size < 6 * 2**20


def test_the_page_on_your_data_makes_a_file_without_faults(tmp_path: Path) -> None:
    docs_runner.run(DOCS / "tutorials" / "your-data.md", tmp_path, HERE)
    path = tmp_path / "hands.npz"
    assert not is_fatal(verify(registry().dataset("joints"), path))
