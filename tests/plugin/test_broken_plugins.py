"""With every kind of broken plugin installed at once, each is reported and a valid one trains."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers.fake_distributions import HERE, REASONS, VALID, install, valid_source
from helpers.hands import joints_file
from helpers.shell import cvhpe, fails

from cvhpe.runs.serialization import read_metadata, read_tensors

pytestmark = pytest.mark.slow

GOOD = VALID.format(name="good", api=1).replace("api=1", 'api=1, reads=("joints2d", "visible")')
TINY = ("--set", "epochs=1", "--set", "min_steps=0", "--set", "hidden_dim=32", "--set", "num_hidden_layers=1")
CONFLICTING = ("left", "right")  # two distributions that supply one name


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Process environment with all of them installed."""
    site = tmp_path / "site"
    site.mkdir()
    for name in REASONS:
        install(site, name)
    for name in CONFLICTING:
        install(site, name, valid_source("shared"))
    install(site, "good", GOOD)
    path = os.pathsep.join([str(site), str(HERE), os.environ.get("PYTHONPATH", "")])
    clean = {"CVHPE_DISABLE_PLUGINS": "", "CVHPE_STRICT_PLUGINS": "", "COLUMNS": "200"}
    return {"PYTHONPATH": path, "CVHPE_CACHE": str(tmp_path / "cache"), **clean}


def test_a_valid_plugin_trains_beside_broken_ones(tmp_path: Path, env: dict[str, str]) -> None:
    listed = cvhpe("plugins", "list", env=env)
    assert listed.returncode == 0, listed.stderr
    messages = [line for line in listed.stdout.splitlines() if not line.startswith("│")]
    for name, reason in REASONS.items():
        assert [line for line in messages if line.startswith(f"{name} of cvhpe-{name} 1.0: ") and reason in line], name
    for name, other in (CONFLICTING, CONFLICTING[::-1]):
        want = f"{name} of cvhpe-{name} 1.0: ValueError: modality 'shared' is also supplied by cvhpe-{other} 1.0"
        assert [line for line in messages if line.startswith(want)], name
    assert "Traceback" not in listed.stdout + listed.stderr

    run, data = tmp_path / "run", ("--data", f"joints:{joints_file(tmp_path / 'hands.npz', 60, 12)}")
    trained = cvhpe("train", "--modalities", "good,joints2d,joints3d", *data, *TINY, "--out", run, env=env)
    assert trained.returncode == 0, trained.stderr
    assert "good to joints3d, protocol" in trained.stdout
    assert read_metadata(run / "model.safetensors")["modalities"]["good"]["plugin"] == "cvhpe-good"
    assert all(
        t.isfinite().all() for t in read_tensors(run / "model.safetensors").values() if torch.is_floating_point(t)
    )
    scored = cvhpe("evaluate", run, *data, "--from", "good", "--json", env=env)
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["from"] == "good"

    assert "plugin cvhpe-" in fails("train", "--modalities", "good,joints3d", env=env | {"CVHPE_STRICT_PLUGINS": "1"})
    alone = env | {"CVHPE_DISABLE_PLUGINS": "*"}
    refused = fails("evaluate", run, *data, env=alone)
    assert "'good' of cvhpe-good 1.0, which is switched off by CVHPE_DISABLE_PLUGINS" in refused
    shutil.rmtree(tmp_path / "site" / "cvhpe_good-1.0.dist-info")
    refused = fails("train", "--resume", "--out", run, env=env)
    assert "which is not installed; pip install 'cvhpe-good==1.0'" in refused
