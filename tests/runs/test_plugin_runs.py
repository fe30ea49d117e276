"""A trained run remembers the plugins it needs, and never takes another one's modality for theirs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from helpers.fake_distributions import install, valid_source

from cvhpe.config.schema import checked
from cvhpe.errors import UserError
from cvhpe.plugin.registry import registry
from cvhpe.runs.run_dir import Metadata, build_model, load_run, save_run

SETTINGS = {
    "modalities": ["ghost", "joints3d"],
    "pairs": ["ghost:joints3d"],
    "hidden_dim": 16,
    "num_hidden_layers": 1,
    "latent_dim": 4,
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("CVHPE_DISABLE_PLUGINS", raising=False)
    yield folder
    registry.cache_clear()


@pytest.fixture
def run(tmp_path: Path, site: Path) -> Path:
    """A saved model of the modality ``ghost`` of ``cvhpe-spooky 1.2``."""
    install(site, "spooky", valid_source("ghost"), version="1.2")
    registry.cache_clear()
    config = checked(SETTINGS)
    save_run(tmp_path / "run", build_model(config), config, Metadata("hand21", "palm", 35.0), {})
    return tmp_path / "run"


def uninstall(site: Path) -> None:
    for path in site.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    registry.cache_clear()


def test_the_same_plugin_loads_the_same_weights(run: Path) -> None:
    registry.cache_clear()
    a, b = build_model(checked(SETTINGS)).state_dict(), load_run(run).model.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_missing_plugin_is_named(run: Path, site: Path) -> None:
    uninstall(site)
    with pytest.raises(
        UserError, match=r"'ghost' of cvhpe-spooky 1\.2, which is not installed; pip install 'cvhpe-spooky==1\.2'"
    ):
        load_run(run)


def test_another_version_is_refused(run: Path, site: Path) -> None:
    uninstall(site)
    install(site, "spooky", valid_source("ghost"), version="1.3")
    with pytest.raises(UserError, match=r"installed is 1\.3; pip install 'cvhpe-spooky==1\.2'"):
        load_run(run)


def test_a_version_that_lacks_the_modality_is_refused(run: Path, site: Path) -> None:
    uninstall(site)
    install(site, "spooky", valid_source("spectre"), version="2.0")
    with pytest.raises(UserError, match=r"installed is 2\.0, which has none; pip install 'cvhpe-spooky==1\.2'"):
        load_run(run)


def test_a_plugin_that_broke_since_is_said_to_have(run: Path, site: Path) -> None:
    uninstall(site)
    install(site, "spooky", "import not_a_module", version="1.2")
    with pytest.raises(UserError, match=r"broken here \(ModuleNotFoundError: No module named 'not_a_module'"):
        load_run(run)


def test_another_plugin_of_the_same_name_is_refused(run: Path, site: Path) -> None:
    uninstall(site)
    install(site, "scary", valid_source("ghost"), version="1.2")
    with pytest.raises(UserError, match=r"of cvhpe-spooky 1\.2, but cvhpe-scary 1\.2 supplies it here"):
        load_run(run)


def test_a_disabled_plugin_is_said_to_be(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVHPE_DISABLE_PLUGINS", "*")
    registry.cache_clear()
    with pytest.raises(UserError, match=r"cvhpe-spooky 1\.2, which is switched off by CVHPE_DISABLE_PLUGINS; take"):
        load_run(run)


def test_a_strict_run_says_what_is_broken_and_not_what_is_missing(
    run: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "raises")
    monkeypatch.setenv("CVHPE_STRICT_PLUGINS", "1")
    registry.cache_clear()
    with pytest.raises(UserError, match=r"^plugin cvhpe-raises 1\.0 \(raises\): RuntimeError"):
        load_run(run)
