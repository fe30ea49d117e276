"""The training step: it needs no value from the device, adds micro-batches up, and bfloat16 is close enough."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext

import pytest
import torch

from cvhpe.config.schema import checked
from cvhpe.models.pairs import sources
from cvhpe.models.vae import Batch, shared_rows
from cvhpe.plugin.contract import View
from cvhpe.runs.run_dir import build_model
from cvhpe.training.batching import MicroBatch, TrainBatch
from cvhpe.training.distributed import ProcessGroup
from cvhpe.training.loss_tracker import LossTracker
from cvhpe.training.state import TrainState
from cvhpe.training.step import count_steps, lr_factor, train_step


def config_of(modalities, pairs, **changes):
    small = {"image_size": 64, "hidden_dim": 16, "num_hidden_layers": 2, "latent_dim": 4}
    return checked({"modalities": modalities, "pairs": pairs, **small, **changes})


def batch_of(model, n, rows, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    stored = {
        name: torch.randint(256, (n, 96, 96, 3), dtype=torch.uint8, generator=generator)
        if name == "rgb"
        else m.fake(n, generator)
        for name, m in model.modalities.items()
    }
    rows = {name: torch.tensor(r) for name, r in rows.items()}
    pair_rows = {}
    for pair in model.pairs:
        if any(name in rows for name in pair):
            both = shared_rows(rows.get(pair.source), rows.get(pair.target), n)
            pair_rows[pair] = tuple(None if t is None else t.to(device) for t in both)
    stored, rows = ({name: t.to(device) for name, t in tensors.items()} for tensors in (stored, rows))
    view = dataclasses.replace(View.identity(n, device), margin=1.5)
    batch = Batch(stored, view, torch.zeros(n, 2, device=device), rows, pair_rows)
    seeds = torch.arange(len(sources(model.pairs))).to(device)
    return TrainBatch([MicroBatch(batch, {}, dict.fromkeys(model.pairs, 1.0))], seeds)


@pytest.mark.parametrize("rows", [{}, {"rgb": [0, 2, 3]}, {"rgb": [1], "joints3d": [1, 2, 3]}, {"rgb": []}])
@pytest.mark.parametrize("joint_network", ["paper", "lifter"])
def test_the_host_never_waits_inside_a_step(rows, joint_network, monkeypatch):
    """On the meta device, which has no values: asking for one, or for a number of them, raises."""
    pairs = ["rgb:joints3d", "rgb:rgb", "joints3d:joints3d", "joints3d:joints2d"]
    config = config_of(["rgb", "joints2d", "joints3d"], pairs, joint_network=joint_network, clip_norm=1.0)
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: nullcontext())  # does not support the meta device
    model = build_model(config).to("meta")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
    state = TrainState(config, model, model, optimizer, None, total_steps=10)
    tracker = LossTracker(model.pairs, ProcessGroup())
    tracker.add(0, train_step(state, batch_of(model, 4, rows, "meta")))
    assert state.step == 1
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(NotImplementedError, match="meta"):
        tracker.read()


@pytest.mark.parametrize(
    ("modalities", "pairs", "joint_network"),
    [
        (["rgb", "joints3d"], ["rgb:joints3d", "rgb:rgb"], "paper"),
        (["joints2d", "joints3d"], ["joints2d:joints3d", "joints2d:joints2d"], "paper"),
        (["joints2d", "joints3d"], ["joints2d:joints3d", "joints2d:joints2d"], "lifter"),
    ],
)
def test_bfloat16_is_close_to_float32(modalities, pairs, joint_network):
    """Loss and gradient of a step: as close as eight bits leave them after all the layers."""
    config = config_of(modalities, pairs, joint_network=joint_network, hidden_dim=64)
    results = []
    for precision in (None, torch.bfloat16):
        model = build_model(config, precision=precision)
        if precision is not None:
            model.to(memory_format=torch.channels_last)
        losses = train_step(TrainState.create(config, model, 10), batch_of(model, 24, {}))
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        assert gradient.dtype == torch.float32
        results.append((losses.total.item(), gradient))
    (exact, g), (near, h) = results
    assert near == pytest.approx(exact, rel=0.02)
    assert not torch.equal(g, h)
    assert torch.nn.functional.cosine_similarity(g, h, 0) > 0.95


def test_the_learning_rate_follows_its_schedule():
    config = checked({"schedule": "cosine", "warmup_fraction": 0.1})
    rates = [lr_factor(config, step, 100) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.5, abs=0.02)
    assert lr_factor(checked({}), 99, 100) == 1.0


def test_a_run_has_its_epochs_or_its_least_number_of_steps():
    assert count_steps(checked({"epochs": 7, "min_steps": 0}), 11) == 77
    assert count_steps(checked({"epochs": 7, "min_steps": 100}), 11) == 100


def test_only_the_first_steps_see_half_size_images():
    config = config_of(["rgb", "joints3d"], ["rgb:joints3d"], image_size=128, low_res_fraction=0.5)
    model, sizes = build_model(config), []
    model.encoders["rgb"].register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))
    state = TrainState.create(config, model, total_steps=4)
    model.eval()  # batch statistics of tiny maps
    for _ in range(4):
        train_step(state, batch_of(model, 2, {}))
    assert sizes == [64, 64, 128, 128]
