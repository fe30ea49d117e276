"""The silhouette package as an outsider ships it: small, on public names alone, installed, trained, evaluated."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest
from helpers import docs_runner

PACKAGE = Path(__file__).parents[2] / "plugins" / "silhouette"
SOURCE = (PACKAGE / "cvhpe_silhouette.py").read_text()
SURFACE = (Path(__file__).parents[1] / "api_surface.txt").read_text().splitlines()


def test_it_has_at_most_45_lines_of_code() -> None:
    tree = ast.parse(SOURCE)
    documented = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.FunctionDef) and ast.get_docstring(n)]
    docs = {i for n in documented for i in range(n.body[0].lineno, (n.body[0].end_lineno or 0) + 1)}
    lines = enumerate(SOURCE.splitlines(), 1)
    code = [i for i, line in lines if line.strip() and not line.strip().startswith("#") and i not in docs]
    assert len(code) <= 45


def test_it_uses_public_names_alone() -> None:
    public = {line.split("(")[0].split(":")[0] for line in SURFACE}
    used = {
        f"{n.module}.{a.name}"
        for n in ast.walk(ast.parse(SOURCE))
        if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("cvhpe")
        for a in n.names
    }
    assert used
    assert used <= public


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_is_installed_trained_and_evaluated(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "silhouette")  # a build leaves its traces beside the source
    binaries = docs_runner.environment(tmp_path / "venv")
    docs_runner.shell("pip install ./silhouette\npython -m pytest -q ./silhouette", tmp_path, binaries, "install")
    listed = docs_runner.shell("cvhpe plugins list", tmp_path, binaries, "list")
    assert "cvhpe-silhouette 1.0.0" in listed
    train = "cvhpe train --modalities rgb,silhouette,joints3d --set synthetic_count=60 --set epochs=1 --out run"
    docs_runner.shell(train, tmp_path, binaries, "train")
    evaluate = "cvhpe evaluate run --from silhouette --to joints3d --json"
    scores = json.loads(docs_runner.shell(evaluate, tmp_path, binaries, "evaluate"))
    assert (scores["from"], scores["to"], scores["frames"]) == ("silhouette", "joints3d", 6)
    assert 0 < scores["epe_median_mm"] < 200
