"""The encoder that predicts 2D joints: their positions, and the auxiliary keypoint loss of a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvhpe.config.schema import checked
from cvhpe.errors import UserError
from cvhpe.models.keypoint_encoder import KeypointEncoder, masked_keypoint_loss
from cvhpe.models.vae import Batch
from cvhpe.plugin.contract import View
from cvhpe.runs.run_dir import build_model

SMALL = {
    "modalities": ["rgb", "joints2d", "joints3d"],
    "pairs": ["rgb:joints3d", "joints2d:joints3d"],
    "image_size": 64,
    "backbone": "keypoints",
    "hidden_dim": 32,
    "num_hidden_layers": 2,
    "latent_dim": 8,
}


def small():
    torch.manual_seed(0)
    return KeypointEncoder(3, 8, joints=21, hidden_dim=32, num_hidden_layers=2).eval()


def test_points_are_the_mean_positions_of_their_heat_maps():
    encoder, outputs = small(), []
    encoder.merged.register_forward_hook(lambda module, args, out: outputs.append(out))
    points = encoder.encode_with_keypoints(torch.randn(2, 3, 96, 64), torch.zeros(2, 2))[1].detach().numpy()
    maps = outputs[0].detach().double().numpy()[:, :21]
    assert maps.shape == (2, 21, 12, 8)
    for b in range(2):
        for j in range(21):
            weights = np.exp(maps[b, j] - maps[b, j].max())
            weights /= weights.sum()
            x = sum(weights[r, c] * ((c + 0.5) / 8 - 0.5) for r in range(12) for c in range(8))
            y = sum(weights[r, c] * ((r + 0.5) / 12 - 0.5) for r in range(12) for c in range(8))
            np.testing.assert_allclose(points[b, j], [x, y], atol=1e-5)


def test_a_heat_map_with_one_peak_gives_that_cell():
    encoder = small()
    bright = torch.full((1, 33, 8, 8), -50.0)
    bright[0, :21, 2, 6] = 50.0
    encoder.merged.register_forward_hook(lambda module, args, out: bright)
    points = encoder.encode_with_keypoints(torch.randn(1, 3, 64, 64), torch.zeros(1, 2))[1]
    torch.testing.assert_close(points, torch.tensor([6.5 / 8 - 0.5, 2.5 / 8 - 0.5]).expand(1, 21, 2))


def test_forward_is_the_posterior_of_encode_with_keypoints():
    encoder, image, side = small(), torch.randn(3, 3, 128, 128), torch.eye(2)[[0, 1, 1]]
    posterior, (with_points, points) = encoder(image, side), encoder.encode_with_keypoints(image, side)
    torch.testing.assert_close(posterior.mu, with_points.mu, rtol=0, atol=0)
    torch.testing.assert_close(posterior.logvar, with_points.logvar, rtol=0, atol=0)
    assert points.abs().max() < 0.5
    assert not torch.allclose(posterior.mu, encoder(image, 1 - side).mu)


def test_the_keypoint_loss_counts_labelled_joints_inside_the_crop():
    g = torch.Generator().manual_seed(3)
    points, truth = (torch.rand(5, 21, 2, generator=g) * 1.4 - 0.7 for _ in range(2))
    truth[1, 4] = torch.nan
    points.requires_grad_()
    distances = [
        float(np.hypot(*(p - t)))
        for p, t in zip(points.detach().flatten(0, 1).numpy(), truth.flatten(0, 1).numpy(), strict=True)
        if np.isfinite(t).all() and (abs(t) < 0.5).all()
    ]
    loss = masked_keypoint_loss(points, truth)
    assert float(loss.detach()) == pytest.approx(np.mean(distances), rel=1e-5)
    loss.backward()
    assert points.grad.isfinite().all()
    assert (points.grad[1, 4] == 0).all()
    assert float(masked_keypoint_loss(points, torch.full_like(truth, torch.nan)).detach()) == 0


@pytest.mark.parametrize("rows", [None, [0, 2, 3]])
def test_a_run_adds_the_keypoint_loss(rows):
    torch.manual_seed(0)
    plain, supervised = (build_model(checked({**SMALL, "aux_keypoint_weight": w})).eval() for w in (0.0, 3.0))
    g, n = torch.Generator().manual_seed(1), 4
    stored = {name: m.fake(n, g) for name, m in plain.modalities.items()}
    has = {} if rows is None else {"rgb": torch.tensor(rows)}
    shared = {} if rows is None else {plain.pairs[0]: (None, torch.tensor(rows))}
    batch = Batch(stored, View.identity(n), torch.eye(2)[[0, 1, 0, 1]], has, shared)
    seeds = torch.tensor([5, 6])
    without, given = plain(batch, seeds, 1e-3, {}), supervised(batch, seeds, 1e-3, {})
    which = list(range(n)) if rows is None else rows
    points = supervised.encoders["rgb"].encode_with_keypoints(stored["rgb"][which], batch.side[which])[1]
    extra = 3.0 * masked_keypoint_loss(points, stored["joints2d"][which])
    torch.testing.assert_close(given.total, without.total + extra, rtol=1e-5, atol=1e-6)
    assert float(extra.detach()) > 0
    given.total.backward()
    assert all(p.grad is not None for p in supervised.parameters())


@pytest.mark.parametrize(
    "change", [{"backbone": "resnet18"}, {"modalities": ["rgb", "joints3d"], "pairs": ["rgb:joints3d"]}]
)
def test_a_keypoint_loss_that_reaches_no_encoder_is_refused(change):
    with pytest.raises(UserError, match="needs --set backbone=keypoints and joints2d"):
        build_model(checked({**SMALL, "aux_keypoint_weight": 1.0, **change}))


@pytest.mark.parametrize(
    ("change", "words"), [({"grad_accum_steps": 2}, "micro-batches"), ({"compile": "default"}, "compiled encoders")]
)
def test_a_keypoint_loss_is_not_supported_everywhere(change, words):
    with pytest.raises(UserError, match=words):
        build_model(checked({**SMALL, "aux_keypoint_weight": 1.0, **change}))
