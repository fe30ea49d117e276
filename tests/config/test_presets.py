"""Recipes: the paper is the defaults themselves, ours is what joints-only runs get, and both can be asked for."""

from __future__ import annotations

import pytest
import torch

from cvhpe.config.presets import RECIPES
from cvhpe.config.schema import Config, checked
from cvhpe.errors import UserError
from cvhpe.models.blocks import LifterEncoder
from cvhpe.models.losses import distance_loss
from cvhpe.runs.recipes import defaults, joints_alone
from cvhpe.runs.run_dir import build_model
from cvhpe.training.resolve import resolved

GIVEN = {"modalities": "joints2d,joints3d", "pairs": "", "variant": None, "data": None, "device": "cpu"}


def settled(recipe="", sets=(), **given):
    return resolved({**GIVEN, **given}, recipe, None, sets)[0]


def test_the_paper_is_the_defaults_and_nothing_else():
    config = settled("paper")
    left = config.model_copy(update={"pairs": (), "modalities": Config().modalities, "device": "auto"})
    assert left == Config()
    paper = build_model(config)
    assert sum(p.numel() for p in paper.encoders["joints2d"].parameters()) == 512 * 43 + 4 * 512 * 513 + 2 * 30 * 515


def test_joints_alone_get_ours_and_pictures_the_papers():
    assert settled().recipe == "best"
    assert settled().augmentation.pose_swap_prob > 0
    assert settled(modalities="rgb,joints3d").recipe == "paper"
    assert joints_alone(["joints2d", "joints3d"])
    assert not joints_alone(["joints2d", "joints3d", "depth"])


def test_ours_with_pictures_keeps_networks_losses_and_hands():
    ours, paper = (checked(defaults(name, ["rgb", "joints3d"], "cuda")[0]) for name in ("best", "paper"))
    changed = {n for n in Config.model_fields if getattr(ours, n) != getattr(paper, n)}
    assert changed == {"recipe", "schedule", "warmup_fraction", "ema_decay"}


def test_settings_of_ones_own_win_over_a_recipe():
    config = settled("best", ["lr=5e-4", "augmentation.keypoint_noise_px=1"])
    assert config.lr == 5e-4
    assert config.augmentation.keypoint_noise_px == 1
    assert config.augmentation.pose_swap_prob == settled("best").augmentation.pose_swap_prob
    assert settled(sets=["recipe=paper"]).joint_network == "paper"


def test_an_unknown_recipe_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"--recipe bets: .*best"):
        settled("bets")
    assert RECIPES == ("paper", "best")


def test_the_lifter_sees_a_hand_wherever_and_however_large_it_is():
    torch.manual_seed(0)
    encoder = LifterEncoder(21, 2, 8, hidden_dim=32, num_hidden_layers=3, centred=True)
    for block in encoder.body[1:-1]:
        torch.nn.init.normal_(block.down.weight, std=0.1)
    x, side = torch.randn(6, 21, 2), torch.eye(2)[[0, 1, 0, 1, 0, 1]]
    encoder.body[0].weight.data[:, 42:45] = 0  # blind to the place and the size that stand beside the shape
    torch.testing.assert_close(encoder(3 * x + 0.2, side).mu, encoder(x, side).mu, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(encoder(x, 1 - side).mu, encoder(x, side).mu, atol=1e-2)
    gap = x.clone()
    gap[:, 3] = float("nan")
    shown = encoder(gap, side)
    assert shown.mu.isfinite().all()
    moved = x.clone()
    moved[:, 3] = 50.0
    moved[:, 3, 1] = float("nan")
    torch.testing.assert_close(encoder(moved, side).mu, shown.mu)
    torch.testing.assert_close(shown.logvar, torch.full((6, 8), -3.0))


def test_a_lifter_that_sees_place_and_size_can_give_them_back():
    torch.manual_seed(0)
    encoder = LifterEncoder(21, 2, 8, hidden_dim=32, num_hidden_layers=2, centred=True)
    x, side = torch.randn(6, 21, 2), torch.zeros(6, 2)
    assert not torch.allclose(encoder(x + 0.3, side).mu, encoder(x, side).mu, atol=1e-3)
    assert not torch.allclose(encoder(2 * x, side).mu, encoder(x, side).mu, atol=1e-3)


def test_the_distance_loss_is_the_mean_distance_of_labelled_joints():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(5, 21, 3, generator=generator, dtype=torch.float64), torch.zeros(5, 21, 3, dtype=torch.float64)
    b[0, :20] = float("nan")
    b[1] = float("nan")
    distance = a.norm(dim=2)
    wanted = torch.stack([distance[0, 20], torch.zeros((), dtype=torch.float64), *distance[2:].mean(1)])
    torch.testing.assert_close(distance_loss(a, b).double(), wanted, atol=0.011, rtol=0)
    pred = a.clone().requires_grad_()
    distance_loss(pred, b).sum().backward()
    assert pred.grad.isfinite().all()
    assert not pred.grad[1].any()
    assert distance_loss(a, a).abs().max() < 1e-6


def test_a_picture_run_without_a_gpu_says_what_it_chose_and_only_that():
    given = {**GIVEN, "modalities": "rgb,joints3d"}
    note = resolved(given, "", None, [])[1]
    assert "synthetic_count=4000" in note
    assert "augmentation.rotation_deg=180.0, augmentation.scale=0.1" in note
    assert note.endswith("the paper's own settings: --recipe paper")
    config, note = resolved(given, "", None, ["synthetic_count=60", "augmentation.scale=0.2"])
    assert "synthetic_count" not in note
    assert "augmentation.scale" not in note
    assert "augmentation.rotation_deg=180.0" in note
    assert (config.synthetic_count, config.augmentation.scale) == (60, 0.2)
    assert resolved(given, "paper", None, [])[1] == ""
