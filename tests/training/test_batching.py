"""make_batch: what samples lack, parts of a batch and whole batches, and what the model is given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.hands import joints_file

from cvhpe.config.schema import checked
from cvhpe.data.loader import Batches
from cvhpe.models.pairs import Pair
from cvhpe.runs.run_dir import build_model
from cvhpe.training.batching import BatchContext, make_batch, mix_seed, step_generator
from cvhpe.training.datamodule import open_data
from cvhpe.training.distributed import ProcessGroup
from cvhpe.training.loss_tracker import LossTracker
from cvhpe.training.state import TrainState
from cvhpe.training.step import train_step

PAIRS = ["joints2d:joints3d", "joints2d:joints2d", "joints3d:joints3d", "joints3d:joints2d"]
SETTINGS = {
    "modalities": ["joints2d", "joints3d"],
    "pairs": PAIRS,
    "hidden_dim": 16,
    "num_hidden_layers": 1,
    "latent_dim": 4,
    "augmentation": {"keypoint_noise_px": 2.0},
}
FIELDS = ("joints2d", "joints3d")


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """Training samples, of which three in four have no 3D joints."""
    folder = tmp_path_factory.mktemp("gaps")
    with np.load(joints_file(folder / "full.npz")) as full:
        xyz = full["joints3d_mm"].copy()
    xyz[:256][np.arange(256) % 4 > 0] = np.nan
    path = joints_file(folder / "gaps.npz", joints3d_mm=xyz, visible=np.isfinite(xyz[..., 0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVHPE_CACHE", str(folder / "cache"))
        yield open_data(checked({**SETTINGS, "data": [f"joints:{path}"]})).train


def context_of(packs, *, rank=0, world=1, **changes):
    config = checked({**SETTINGS, **changes})
    loader = Batches(packs, FIELDS, 64 // world, seed=0, rank=rank, world=world)
    return BatchContext(config, build_model(config), loader, torch.device("cpu"))


def first_batch(context):
    return make_batch(next(context.loader.epoch(0)), torch.Generator().manual_seed(5), context)


def test_the_model_is_given_samples_sides_and_rows(packs):
    context = context_of(packs, augmentation={})
    fields = next(context.loader.epoch(0))
    batch = make_batch(fields, torch.Generator().manual_seed(5), context)
    (micro,) = batch.micro_batches
    has = fields["has_joints3d"]
    assert 0 < has.sum() < len(has)
    assert micro.batch.rows["joints3d"].equal(has.nonzero()[:, 0])
    assert "joints2d" not in micro.batch.rows
    assert micro.batch.stored["joints2d"].data_ptr() == fields["joints2d"].data_ptr()  # as packed, not copied
    flipped_side = fields["side"] ^ micro.batch.view.flip.long()
    assert micro.batch.side.argmax(1).equal(flipped_side)
    assert micro.share == dict.fromkeys(context.model.pairs, 1.0)
    assert batch.seeds.shape == (2,)
    of_source, of_target = micro.batch.pair_rows[Pair("joints2d", "joints3d")]
    assert of_source.equal(has.nonzero()[:, 0])
    assert of_target is None


@pytest.mark.parametrize("world", [2, 4])
def test_processes_get_the_parts_of_the_whole_batch(packs, world):
    """Views, noise keys, 2D noise, and each sample's place among those that have a modality."""
    whole = first_batch(context_of(packs))
    parts = [first_batch(context_of(packs, rank=rank, world=world)) for rank in range(world)]
    batches = [part.micro_batches[0].batch for part in parts]
    (one,) = whole.micro_batches
    for part in parts:
        assert part.seeds.equal(whole.seeds)
    for get in (lambda b: b.view.packed, lambda b: b.side, lambda b: b.stored["joints2d"]):
        assert torch.cat([get(b) for b in batches]).equal(get(one.batch))
    num_with_3d = [len(b.rows["joints3d"]) for b in batches]
    assert [b.offset["joints3d"] for b in batches] == [sum(num_with_3d[:rank]) for rank in range(world)]
    assert [b.offset["joints2d"] for b in batches] == [64 // world * rank for rank in range(world)]
    for pair in one.share:
        assert sum(part.micro_batches[0].share[pair] for part in parts) == pytest.approx(1.0)
        mean_weight = sum(part.micro_batches[0].weights[pair] for part in parts) / world
        assert mean_weight == pytest.approx(one.weights[pair])


@pytest.mark.parametrize("pieces", [2, 7, 64])
def test_micro_batches_add_up_to_the_whole_batch(packs, pieces):
    """Losses and gradients of a step, however its batch is split."""
    results = []
    for grad_accum_steps in (1, pieces):
        context = context_of(packs, grad_accum_steps=grad_accum_steps)
        state = TrainState.create(context.config, context.model, 10)
        batch = first_batch(context)
        assert len(batch.micro_batches) == grad_accum_steps
        tracker = LossTracker(context.model.pairs, ProcessGroup())
        tracker.add(0, train_step(state, batch))
        gradient = torch.cat([p.grad.flatten() for p in context.model.parameters()])
        results.append((tracker.read().means, gradient))
    (want, gradient), (got, accumulated) = results
    assert set(PAIRS) < set(want)
    assert got == pytest.approx(want, abs=1e-6)
    torch.testing.assert_close(accumulated, gradient, rtol=1e-4, atol=1e-6)


def test_a_step_without_any_sample_of_a_pair_still_trains_the_others(packs):
    context = context_of(packs)
    fields = context.loader.batch(np.arange(64)[np.arange(64) % 4 > 0])
    assert not fields["has_joints3d"].any()
    batch = make_batch(fields, torch.Generator().manual_seed(0), context)
    (micro,) = batch.micro_batches
    assert set(micro.share) == {Pair("joints2d", "joints2d")}
    losses = train_step(TrainState.create(context.config, context.model, 10), batch)
    assert set(losses.reconstruction) == {Pair("joints2d", "joints2d")}
    assert all(p.grad is not None for p in context.model.parameters())


def test_inputs_and_targets_share_their_view(packs):
    """A 2D joint of the batch is where the view puts the stored one."""
    context = context_of(packs, augmentation={})
    (micro,) = first_batch(context).micro_batches
    batch, modality = micro.batch, context.model.modalities["joints2d"]
    c, s = batch.view.angle.cos(), batch.view.angle.sin()
    sign = torch.where(batch.view.flip, -1.0, 1.0)
    x, y = batch.stored["joints2d"][..., 0] * sign[:, None], batch.stored["joints2d"][..., 1]
    rotated = torch.stack([c[:, None] * x - s[:, None] * y, s[:, None] * x + c[:, None] * y], -1)
    want = rotated + batch.view.shift[:, None]
    got = modality.augment(*batch.take("joints2d", None))
    torch.testing.assert_close(got[:, 1:], want[:, 1:], rtol=0, atol=1e-5)  # the root moves to the palm


def test_every_step_of_every_run_has_a_seed_of_its_own():
    seeds = {mix_seed(seed, step) for seed in range(50) for step in range(200)}
    assert len(seeds) == 50 * 200
    assert all(0 <= s < 2**63 for s in seeds)
    assert step_generator(3, 7).initial_seed() == mix_seed(3, 7)
