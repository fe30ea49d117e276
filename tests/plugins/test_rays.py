"""The modality of known cameras: rays under the contract, and joints moved towards them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from cvhpe_rays import PULL, cvhpe_modalities, refine
from helpers.hands import joints_file

from cvhpe.cli.scores import score
from cvhpe.config.schema import checked
from cvhpe.data.loader import Batches
from cvhpe.errors import UserError
from cvhpe.evaluation.evaluate import identity_view, truth_mm
from cvhpe.inference.predict import Options, check_options
from cvhpe.ops import Palm
from cvhpe.runs.run_dir import build_model, load_run, model_fields
from cvhpe.testing import modality_checks, random_view
from cvhpe.training.batching import BatchContext
from cvhpe.training.datamodule import open_data
from cvhpe.training.trainer import train

[RAYS] = cvhpe_modalities()
RUN = {
    "modalities": ["rays", "joints3d"],
    "pairs": ["rays:joints3d"],
    "recipe": "best",
    "joint_network": "lifter",
    "hidden_dim": 32,
    "num_hidden_layers": 2,
    "device": "cpu",
    "threads": 1,
    "epochs": 1,
    "min_steps": 30,
    "num_validations": 1,
}


@pytest.mark.parametrize("check", modality_checks(RAYS))
def test_contract(check):
    check()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rays")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVHPE_CACHE", str(folder / "cache"))
        yield checked({**RUN, "data": [f"joints:{joints_file(folder / 'hands.npz', 160, 40)}"]})


@pytest.fixture(scope="module")
def fields(config):
    batches = Batches(open_data(config).train, model_fields(config), 64, shuffle=False)
    batch = next(batches.epoch(0))
    return {name: t[batch["has_joints3d"]] for name, t in batch.items()}


def test_rays_go_through_the_joints(fields):
    rays = RAYS.stored(fields)
    mm = fields["joints3d"] * fields["scale_mm"][:, None, None] + fields["root_mm"][:, None]
    known = rays.isfinite()
    assert known.float().mean() > 0.99
    torch.testing.assert_close(rays[known], (mm[..., :2] / mm[..., 2:])[known], atol=1e-4, rtol=0)


def test_a_rotated_or_flipped_hand_has_rotated_or_flipped_rays(fields):
    """Rays and 3D joints agree under every view: its scale and shift apply to the crop only."""
    n = len(fields["side"])
    view = replace(random_view(n, torch.Generator().manual_seed(0)), root_shift_weight=torch.zeros(n))
    augmented = RAYS.augment(RAYS.stored(fields), view)
    sign = torch.where(view.flip, -1.0, 1.0)
    mm = fields["joints3d"] * fields["scale_mm"][:, None, None] + fields["root_mm"][:, None]
    x, y = mm[..., 0] * sign[:, None], mm[..., 1]
    c, s = view.angle.cos()[:, None], view.angle.sin()[:, None]
    expected = torch.stack([c * x - s * y, s * x + c * y], -1) / mm[..., 2:]
    known = augmented.isfinite()
    torch.testing.assert_close(augmented[known], expected[known], atol=2e-4, rtol=0)


def test_swapped_hands_stay_on_their_rays(config):
    swapping = config.model_copy(
        update={"augmentation": config.augmentation.model_copy(update={"pose_swap_prob": 1.0})}
    )
    batches = Batches(open_data(config).train, model_fields(config), 64, seed=0)
    context = BatchContext(swapping, build_model(swapping), batches, torch.device("cpu"))
    fields = next(batches.epoch(0))
    new = context.pose_swap(fields, torch.Generator().manual_seed(0), 64)
    assert (new["root_mm"] != fields["root_mm"]).any(1).float().mean() > 0.9
    mm = new["joints3d"] * new["scale_mm"][:, None, None] + new["root_mm"][:, None]
    rays = RAYS.stored(new)
    known = rays.isfinite() & new["has_joints3d"][:, None, None]
    assert known.float().mean() > 0.98
    torch.testing.assert_close(rays[known], (mm[..., :2] / mm[..., 2:])[known], atol=2e-4, rtol=0)


def test_refining_keeps_the_truth_and_reduces_errors_across_the_rays(fields):
    view = identity_view(fields, 1.0)
    truth = truth_mm(fields, Palm(0, 9))
    rays = RAYS.augment(RAYS.stored(fields), view)
    torch.testing.assert_close(refine(truth, rays, root=0), truth, atol=0.3, rtol=0)
    wrong = truth + 5 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    wrong[:, 0] = 0
    better = refine(wrong, rays, root=0)
    assert (better[:, 0] == 0).all()
    before, after = ((x - truth).norm(dim=-1)[:, 1:].mean() for x in (wrong, better))
    assert after < 0.8 * before
    gap = rays.clone()
    gap[:, 4] = float("nan")
    assert refine(wrong, gap, root=0).isfinite().all()


def test_refining_pulls_most_of_the_way_to_the_ray():
    """One joint off its ray, twenty on theirs: it moves by its share, and the others stay."""
    joints = torch.randn(1, 21, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 40
    joints[:, 0] = 0
    placed = joints + torch.tensor([0.0, 0, 500])
    rays = placed[..., :2] / placed[..., 2:]
    moved = joints.clone()
    moved[:, 5, 0] += 8
    refined = refine(moved.float(), rays.float(), root=0).double()
    assert float((refined - joints).norm(dim=-1)[0, 5]) < 8 * (1 - PULL) + 2
    assert float((refined - joints).norm(dim=-1)[0, 6:].max()) < 1.5


def test_a_run_is_scored_after_refining_and_not_used_on_photos(config, tmp_path):
    data = open_data(config)
    train(config, data, tmp_path / "run")
    run = load_run(tmp_path / "run")
    with_rays = score(run, data.validation, "rays", "joints3d", None)
    run.model.modalities["rays"] = replace(run.model.modalities["rays"], refine=None)
    without = score(run, data.validation, "rays", "joints3d", None)
    assert np.isfinite(with_rays.model.epe_median)
    assert abs(with_rays.model.epe_median - without.model.epe_median) > 0.01
    with pytest.raises(UserError, match="predict needs rgb or joints2d"):
        check_options(run, Options())
