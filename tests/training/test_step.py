"""The step itself: the host never waits for the device, pictures stay bytes until there, bfloat16 is close enough."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from cvhpe.config.schema import checked
from cvhpe.models.pairs import sources
from cvhpe.models.vae import Batch, shared_rows
from cvhpe.plugin.contract import View
from cvhpe.runs.run_dir import build_model
from cvhpe.training.batching import BatchBuilder, MicroBatch
from cvhpe.training.distributed import ProcessGroup
from cvhpe.training.loss_tracker import LossTracker


def setup(modalities, pairs, **changes):
    small = {"image_size": 64, "hidden_dim": 16, "num_hidden_layers": 2, "latent_dim": 4}
    c = checked({"modalities": modalities, "pairs": pairs, **small, **changes})
    return c, build_model(c)


def batch_of(model, n, rows, device):
    generator = torch.Generator().manual_seed(0)
    stored = {
        name: torch.zeros(n, 96, 96, 3, dtype=torch.uint8, device=device)
        if name == "rgb"
        else m.fake(n, generator).to(device)
        for name, m in model.modalities.items()
    }
    index = {name: torch.tensor(r, device=device) for name, r in rows.items()}
    shared = {}
    for pair in model.pairs:
        if any(name in rows for name in pair):
            both = shared_rows(*(torch.tensor(rows[x]) if x in rows else None for x in pair), n)
            shared[pair] = tuple(None if t is None else t.to(device) for t in both)
    view = dataclasses.replace(View.identity(n, device), margin=1.5)
    return Batch(stored, view, torch.zeros(n, 2, device=device), index, shared)


def a_step(model, optimiser, ledger, part, seeds):
    losses = model(part.batch, seeds, 1e-5, part.weights)
    optimiser.zero_grad(set_to_none=True)
    losses.total.backward()
    optimiser.step()
    ledger.add(0, [(losses, part)])


@pytest.mark.parametrize("rows", [{}, {"rgb": [0, 2, 3]}, {"rgb": [1], "joints3d": [1, 2, 3]}, {"rgb": []}])
@pytest.mark.parametrize("network", ["paper", "lifter"])
def test_the_host_never_waits_inside_a_step(rows, network, monkeypatch):
    """The step on torch's device without numbers: whoever asks for one, or for how many there are, gets an error."""
    pairs = ["rgb:joints3d", "rgb:rgb", "joints3d:joints3d", "joints3d:joints2d"]
    _, model = setup(["rgb", "joints2d", "joints3d"], pairs, joint_network=network)
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: nullcontext())  # knows no device without numbers
    model.to("meta")
    batch = batch_of(model, 4, rows, "meta")
    seeds = torch.empty(len(sources(model.pairs)), dtype=torch.int64, device="meta")
    ledger = LossTracker(model.pairs, ProcessGroup(), torch.device("meta"))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
    part = MicroBatch(batch, {}, dict.fromkeys(model.pairs, 1.0))
    a_step(model, optimiser, ledger, part, seeds)
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(NotImplementedError, match="meta"):
        ledger.read()  # reading waits, and here cannot; that it is noticed shows that the step did not


@pytest.mark.parametrize("question", [torch.Tensor.item, torch.Tensor.cpu, torch.nonzero, bool, torch.Tensor.tolist])
def test_the_device_without_numbers_answers_no_question(question):
    with pytest.raises((NotImplementedError, RuntimeError)):
        question(torch.zeros(3 if question is torch.nonzero else (), device="meta"))


def test_pictures_are_bytes_until_they_are_on_the_device():
    """What a feed moves is what the data set packed, a quarter of the floats the network sees."""
    c, model = setup(["rgb", "joints3d"], ["rgb:joints3d"])
    batch = batch_of(model, 4, {}, "cpu")
    fields = dict(batch.stored) | {
        "index": torch.arange(4),
        "root_shift_weight": torch.zeros(4),
        "side": torch.zeros(4, dtype=torch.long),
    }
    has = torch.ones(4, dtype=torch.bool)
    batches = SimpleNamespace(
        arrays=lambda: {"root_shift_weight": torch.zeros(4), "has_rgb": has, "has_joints3d": has},
        margin=1.5,
        rank=0,
        world=1,
    )
    feed = BatchBuilder(c, model, batches, torch.device("cpu"))
    (part,), _ = feed(fields, torch.Generator())
    assert part.batch.stored["rgb"].dtype == torch.uint8
    assert part.batch.stored["rgb"].data_ptr() == fields["rgb"].data_ptr()


@pytest.mark.parametrize(
    ("modalities", "pairs", "network"),
    [
        (["rgb", "joints3d"], ["rgb:joints3d", "rgb:rgb"], "paper"),
        (["joints2d", "joints3d"], ["joints2d:joints3d", "joints2d:joints2d"], "paper"),
        (["joints2d", "joints3d"], ["joints2d:joints3d", "joints2d:joints2d"], "lifter"),
    ],
)
def test_bfloat16_is_close_to_float32(modalities, pairs, network):
    """Losses and gradients of a step: near what eight bits leave of noise after all the layers."""
    torch.manual_seed(0)
    _, model = setup(modalities, pairs, joint_network=network, hidden_dim=64)
    batch = batch_of(model, 24, {}, "cpu")
    if "rgb" in batch.stored:
        batch.stored["rgb"].random_(generator=torch.Generator().manual_seed(1))
    seeds = torch.tensor([3])
    found = []
    for precision in (None, torch.bfloat16):
        net = copy.deepcopy(model)
        net.precision = precision
        if precision is not None:
            net.to(memory_format=torch.channels_last)
        losses = net(batch, seeds, 1e-5, {})
        losses.total.backward()
        gradient = torch.cat([p.grad.flatten() for p in net.parameters()])
        assert gradient.dtype == torch.float32
        found.append((losses.total.item(), gradient))
    (exact, g), (near, h) = found
    assert near == pytest.approx(exact, rel=0.02)
    assert not torch.equal(g, h)
    assert torch.nn.functional.cosine_similarity(g, h, 0) > 0.95
