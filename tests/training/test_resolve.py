"""Recipes: the paper's settings are the defaults, joints-only runs get the recipe best, and options win over both."""

from __future__ import annotations

import pytest

from cvhpe.config.schema import Config, checked
from cvhpe.errors import UserError
from cvhpe.runs.run_dir import build_model
from cvhpe.training.resolve import default_settings, joints_only, resolve_config, resume_config

OPTIONS = {"modalities": "joints2d,joints3d", "pairs": "", "variant": None, "data": None, "device": "cpu"}


def config_of(recipe="", sets=(), **given):
    return resolve_config({**OPTIONS, **given}, recipe, None, sets)[0]


def test_the_paper_is_the_defaults_and_nothing_else():
    config = config_of("paper")
    left = config.model_copy(update={"pairs": (), "modalities": Config().modalities, "device": "auto"})
    assert left == Config()
    paper = build_model(config)
    assert sum(p.numel() for p in paper.encoders["joints2d"].parameters()) == 512 * 43 + 4 * 512 * 513 + 2 * 30 * 515


def test_the_recipe_follows_from_the_modalities():
    assert config_of().recipe == "best"
    assert config_of().augmentation.pose_swap_prob > 0
    assert config_of(modalities="rgb,joints3d").recipe == "paper"
    assert joints_only(["joints2d", "joints3d"])
    assert not joints_only(["joints2d", "joints3d", "depth"])


def test_the_recipe_best_with_images_keeps_networks_and_losses():
    ours, paper = (checked(default_settings(name, ["rgb", "joints3d"], "cuda")[0]) for name in ("best", "paper"))
    changed = {n for n in Config.model_fields if getattr(ours, n) != getattr(paper, n)}
    assert changed == {"recipe", "schedule", "warmup_fraction", "ema_decay"}


def test_given_settings_win_over_a_recipe():
    config = config_of("best", ["lr=5e-4", "augmentation.keypoint_noise_px=1"])
    assert config.lr == 5e-4
    assert config.augmentation.keypoint_noise_px == 1
    assert config.augmentation.pose_swap_prob == config_of("best").augmentation.pose_swap_prob
    assert config_of(sets=["recipe=paper"]).joint_network == "paper"


def test_an_unknown_recipe_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"--recipe bets: .*best"):
        config_of("bets")


def test_an_image_run_without_a_gpu_notes_the_settings_that_it_chose():
    given = {**OPTIONS, "modalities": "rgb,joints3d"}
    note = resolve_config(given, "", None, [])[1]
    assert "synthetic_count=4000" in note
    assert "augmentation.rotation_deg=180.0, augmentation.scale=0.1" in note
    assert note.endswith("the paper's own settings: --recipe paper")
    config, note = resolve_config(given, "", None, ["synthetic_count=60", "augmentation.scale=0.2"])
    assert "synthetic_count" not in note
    assert "augmentation.scale" not in note
    assert "augmentation.rotation_deg=180.0" in note
    assert (config.synthetic_count, config.augmentation.scale) == (60, 0.2)
    assert resolve_config(given, "paper", None, [])[1] == ""


def test_the_recipe_of_a_toml_file_is_kept(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(config_of("paper").toml())
    assert resolve_config({**OPTIONS, "modalities": "", "device": ""}, "", path, [])[0] == config_of("paper")


def test_a_modality_that_no_pair_uses_is_refused():
    with pytest.raises(UserError, match="--modalities lists joints3d, which no pair uses"):
        config_of(pairs="joints2d:joints2d")


def test_a_resumed_run_keeps_its_settings(tmp_path):
    (tmp_path / "config.toml").write_text(config_of("paper").toml())
    nothing = dict.fromkeys(OPTIONS)
    assert resume_config(tmp_path, nothing, None, []) == (config_of("paper"), tmp_path)
    with pytest.raises(UserError, match="--resume goes on with the run's own settings"):
        resume_config(tmp_path, {**nothing, "variant": 2}, None, [])
    with pytest.raises(UserError, match="nothing to resume"):
        resume_config(tmp_path / "other", nothing, None, [])
