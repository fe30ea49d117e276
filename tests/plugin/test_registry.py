"""Discovery of plugins, their states and errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fake_distributions import FAULTY, REASONS, install, valid_source

import cvhpe.plugin.registry
from cvhpe.errors import UserError
from cvhpe.plugin.registry import Plugin, Registry, unknown_in_disable_list

BUILT_IN = {"rgb", "depth", "joints2d", "joints3d", "rays"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed distributions, first on sys.path; no settings from outside."""
    monkeypatch.syspath_prepend(tmp_path)
    for variable in ("CVHPE_DISABLE_PLUGINS", "CVHPE_STRICT_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def plugin(registry: Registry, name: str) -> Plugin:
    return next(p for p in registry.plugins if p.name == name)


def test_built_ins_are_discovered_through_entry_points() -> None:
    registry = Registry()
    assert set(registry.modalities) >= BUILT_IN
    assert {"synthetic", "rhd", "joints"} <= set(registry.datasets)
    assert registry.supplier("rgb").dist == "cvhpe"


def test_every_faulty_plugin_has_an_expected_error() -> None:
    assert set(REASONS) == {f.stem for f in FAULTY.glob("*.py")}


@pytest.mark.parametrize("name", REASONS)
def test_a_broken_plugin_is_reported_and_others_load(site: Path, name: str) -> None:
    install(site, name)
    install(site, "good", valid_source("good"))
    registry = Registry()
    broken = plugin(registry, name)
    assert (broken.state, broken.package) == ("broken", f"cvhpe-{name} 1.0")
    assert REASONS[name] in broken.error
    assert "\n" not in broken.error
    assert "Traceback" in broken.traceback or name in ("takesrgb", "takesrhd")
    assert set(registry.modalities) == BUILT_IN | {"good"}
    assert registry.modality("good").name == "good"
    assert registry.dataset("rhd").open.func.__module__.startswith("cvhpe.")


def test_all_faulty_plugins_at_once(site: Path) -> None:
    for name in REASONS:
        install(site, name)
    registry = Registry()
    assert set(registry.modalities) == BUILT_IN
    assert {p.name for p in registry.plugins if p.state == "broken"} == set(REASONS)


def test_unreadable_entry_points_are_reported(site: Path) -> None:
    install(site, "garbled", valid_source("garbled"), entry_points="[cvhpe.modalities]\nthis is no entry point\n")
    registry = Registry()
    broken = next(p for p in registry.plugins if p.dist == "cvhpe-garbled")
    assert broken.state == "broken"
    assert "unreadable entry points" in broken.error
    assert set(registry.modalities) == BUILT_IN


def test_keyboard_interrupt_propagates(site: Path) -> None:
    install(site, "interrupt", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        _ = Registry().plugins


def test_two_plugins_with_one_name(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "left", valid_source("mask"))
    install(site, "right", valid_source("mask"), version="2.5")
    registry = Registry()
    want = "supplied by cvhpe-right 2.5; to keep this one: CVHPE_DISABLE_PLUGINS=cvhpe-right"
    assert want in plugin(registry, "left").error
    with pytest.raises(UserError, match=r"'mask' cannot be used.*cvhpe-left 1\.0 .*cvhpe-right 2\.5") as caught:
        registry.modality("mask")
    assert "CVHPE_DISABLE_PLUGINS" in str(caught.value)
    monkeypatch.setenv("CVHPE_DISABLE_PLUGINS", "cvhpe-left")
    assert Registry().supplier("mask").package == "cvhpe-right 2.5"


def test_two_entry_points_of_one_distribution_with_one_name(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        site, "both", valid_source("mask"), entry_points="[cvhpe.modalities]\none = cvhpe_both\nother = cvhpe_both\n"
    )
    off = "cvhpe-both:other"  # the distribution's name alone would switch off both
    want = f"supplied by entry point 'other' of cvhpe-both 1.0; to keep this one: CVHPE_DISABLE_PLUGINS={off}"
    assert want in plugin(Registry(), "one").error
    monkeypatch.setenv("CVHPE_DISABLE_PLUGINS", off)
    assert Registry().supplier("mask").name == "one"


def test_a_plugin_with_a_built_ins_name_blocks_no_other_name(site: Path) -> None:
    install(site, "takesrgb")  # supplies dots as well, which is unusable too
    install(site, "good", valid_source("dots"))
    assert Registry().supplier("dots").dist == "cvhpe-good"


def test_the_first_distribution_on_the_path_is_used(site: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shadowed = tmp_path_factory.mktemp("later")
    sys.path.append(str(shadowed))
    try:
        install(shadowed, "shadow", "raise RuntimeError('shadowed')", version="1.0")
        install(site, "shadow", valid_source("shadow"), version="2.0")
        assert [p.package for p in Registry().plugins if p.name == "shadow"] == ["cvhpe-shadow 2.0"]
    finally:
        sys.path.remove(str(shadowed))


@pytest.mark.parametrize("spelling", ["cvhpe-good", "CVHPE_Good", "cvhpe.good:good", "other, cvhpe-good ", "*"])
def test_disabled_plugins_are_not_imported(site: Path, monkeypatch: pytest.MonkeyPatch, spelling: str) -> None:
    install(site, "good", "raise RuntimeError('imported')")
    monkeypatch.setenv("CVHPE_DISABLE_PLUGINS", spelling)
    registry = Registry()
    assert plugin(registry, "good").state == "disabled"
    assert set(registry.modalities) == BUILT_IN
    with pytest.raises(UserError, match=r"cvhpe-good 1\.0 is switched off by CVHPE_DISABLE_PLUGINS"):
        registry.modality("good")


def test_a_misspelt_name_in_the_disable_list_is_reported(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "good", valid_source("good"))
    monkeypatch.setenv("CVHPE_DISABLE_PLUGINS", "cvhpe-god,cvhpe-good,*")
    assert unknown_in_disable_list(Registry().plugins) == ["cvhpe-god"]


@pytest.mark.parametrize("name", ["raises", "importerr", "takesrgb"])
def test_strict_stops_at_a_broken_plugin(site: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    install(site, name)
    monkeypatch.setenv("CVHPE_STRICT_PLUGINS", "1")
    with pytest.raises(UserError, match=f"plugin cvhpe-{name} 1.0"):
        _ = Registry().modalities
    monkeypatch.setenv("CVHPE_STRICT_PLUGINS", "0")
    assert set(Registry().modalities) == BUILT_IN


@pytest.mark.parametrize(("api", "state"), [(3, "broken"), (2, "ok"), (1, "ok"), (0, "broken")])
def test_a_version_accepts_itself_and_the_one_before(
    site: Path, monkeypatch: pytest.MonkeyPatch, api: int, state: str
) -> None:
    monkeypatch.setattr(cvhpe.plugin.registry, "API_VERSION", 2)
    install(site, "aged", valid_source("aged", api))
    registry = Registry()
    assert plugin(registry, "aged").state == state
    if api == 0:
        assert "this cvhpe supports 1 and 2; update the plugin" in plugin(registry, "aged").error


def test_errors_of_unknown_names_suggest_the_nearest_and_list_broken_plugins(site: Path) -> None:
    install(site, "raises")
    registry = Registry()
    with pytest.raises(
        UserError, match=r"unknown modality 'joint3d': did you mean 'joints3d'.*cvhpe-raises 1\.0 is broken"
    ):
        registry.modality("joint3d")
    with pytest.raises(UserError, match="unknown data set 'rdh': did you mean 'rhd'"):
        registry.dataset("rdh")
    with pytest.raises(
        UserError, match=r"modality 'raises' cannot be used; plugin raises of cvhpe-raises 1\.0 is broken"
    ):
        registry.modality("raises")


def test_a_missing_cvhpe_distribution_is_reported() -> None:
    with pytest.raises(UserError, match=r"cvhpe itself is not installed in this Python"):
        Registry([]).modality("rgb")


def test_data_sets_need_no_torch() -> None:
    code = (
        "import sys; from cvhpe import hookimpl; from cvhpe.plugin.registry import registry\n"
        "assert registry().dataset('rhd').name == 'rhd'\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
