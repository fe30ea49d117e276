"""What a protocol gives the networks is the same while training, in evaluation, in calibration and in figures."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.hands import joints_file
from helpers.untrained import untrained_run

from cvhpe.config.schema import PROTOCOLS, checked
from cvhpe.evaluation.eval_set import EvalSet
from cvhpe.evaluation.evaluate import encode
from cvhpe.inference.exported_modules import ports
from cvhpe.runs.run_dir import load_run, save_run
from cvhpe.synthetic import poses
from cvhpe.training.batching import make_batch
from cvhpe.training.device import pick_device
from cvhpe.training.distributed import ProcessGroup
from cvhpe.training.trainer import build_state, data_metadata, train_loader
from cvhpe.uncertainty.calibration import encode_hands

STILL = {"rotation_deg": 0.0, "shift": 0.0, "flip": 0.0}
PAIRS = ["joints2d:joints3d", "joints3d:joints3d"]


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    return joints_file(tmp_path_factory.mktemp("hands") / "hands.npz", n=160, held_out=32)


@pytest.fixture(params=PROTOCOLS)
def trained(request, hands, tmp_path, monkeypatch):
    """What training has under each protocol, one batch of its data, and the run as it is saved and opened again."""
    from cvhpe.training.datamodule import open_data

    monkeypatch.setenv("CVHPE_CACHE", str(tmp_path / "cache"))
    config = checked(
        {"modalities": ["joints2d", "joints3d"], "pairs": PAIRS, "data": [f"joints:{hands}"], "hidden_dim": 16,
         "num_hidden_layers": 1, "latent_dim": 4, "device": "cpu", "ema_decay": 0.9, "augmentation": STILL,
         "protocol": request.param}
    )  # fmt: skip
    data, device = open_data(config), pick_device("cpu")
    loader = train_loader(config, data, device, ProcessGroup())
    state, context = build_state(config, loader, device)
    save_run(tmp_path / "run", state.eval_model, config, data_metadata(loader), {})
    return (
        SimpleNamespace(state=state, context=context, data=data),
        loader.batch(np.arange(32)),
        load_run(tmp_path / "run"),
    )


def seen_by_the_encoder(model, name, call):
    """``x`` and ``side`` of the last call of an encoder during ``call()``."""
    caught = []
    hook = model.encoders[name].register_forward_pre_hook(lambda _, given: caught.append(given))
    try:
        call()
    finally:
        hook.remove()
    return caught[-1]


def test_evaluation_feeds_what_training_feeds(trained):
    training, fields, run = trained
    batch = make_batch(fields, torch.Generator().manual_seed(0), training.context)
    (part,), model = batch.micro_batches, training.state.model
    protocol, margin = run.config.protocol, training.context.loader.margin
    for name in ("joints2d", "joints3d"):
        wanted = seen_by_the_encoder(model, name, lambda: model(part.batch, batch.seeds, 1e-5, part.weights))
        for evaluated in (training.state.eval_model, run.model):
            got = seen_by_the_encoder(
                evaluated, name, lambda m=evaluated, n=name: encode(m, fields, [n], protocol=protocol, margin=margin)
            )
            for one, other in zip(got, wanted, strict=True):
                torch.testing.assert_close(one, other)


def test_without_s_the_unit_is_the_mean_bone_and_with_s_the_hands_own(trained, hands):
    training, fields, run = trained
    xyz = np.load(hands)["joints3d_mm"].astype(float)
    bones = np.linalg.norm(xyz[:, 10] - xyz[:, 9], axis=1)  # middle PIP to MCP of FreiHAND's order
    train = bones[: training.context.loader.samples]
    unit = bones[:32] if "S" in run.config.protocol else np.full(32, train.mean())
    palm = xyz.copy()
    palm[:, 0] = (xyz[:, 0] + xyz[:, 9]) / 2
    wanted = (palm - palm[:, :1])[:32] / unit[:, None, None]
    x, _ = seen_by_the_encoder(
        run.model,
        "joints3d",
        lambda: encode(run.model, fields, ["joints3d"], protocol=run.config.protocol, margin=1.5),
    )
    np.testing.assert_allclose(x.numpy(), wanted, atol=1e-4)
    np.testing.assert_allclose(run.model.units(fields["scale_mm"]).numpy(), unit, rtol=1e-5)


def test_figures_and_calibration_follow(trained):
    training, fields, run = trained
    rows = np.arange(32)
    held = EvalSet(run, training.data.train)
    x, side = seen_by_the_encoder(
        run.model,
        "joints3d",
        lambda: encode(
            run.model, fields, ["joints3d"], protocol=run.config.protocol, margin=training.context.loader.margin
        ),
    )
    torch.testing.assert_close(held.to_network_input("joints3d", rows), x)
    torch.testing.assert_close(held.side(rows), side)
    gathered = encode_hands(run, training.data.train, ["joints3d"])
    torch.testing.assert_close(gathered.posteriors["joints3d"].mu[:32], held.encode("joints3d", rows).mu)
    np.testing.assert_allclose(gathered.scale.numpy()[:32], held.scale_mm(rows))


def test_figures_of_another_runs_encoders_use_its_unit(trained, tmp_path):
    training, _, run = trained
    other = untrained_run(tmp_path / "other", *PAIRS, protocol="T")
    held = EvalSet(run, training.data.train)
    rows = np.arange(8)
    ratio = other.model.unit_mm / run.model.units(held.arrays["scale_mm"][:8])
    expected = held.to_network_input("joints3d", rows) / ratio[:, None, None]
    torch.testing.assert_close(held.to_network_input("joints3d", rows, other), expected)


def test_an_exported_file_says_its_unit(trained):
    _, _, run = trained
    (port, *_), _ = ports(run, ["joints3d"], "joints3d", "wrist")
    assert (f"{run.metadata.mean_scale_mm:.6g} mm" in port.meaning) == (not run.has_scale)


def test_hands_differ_in_size():
    """Else none of the above would tell one unit from the other."""
    xyz = poses(160, 0)["joints3d_mm"].astype(float)
    bones = np.linalg.norm(xyz[:, 10] - xyz[:, 9], axis=1)
    assert bones.std() / bones.mean() > 0.05
