"""Reconstruction losses against formulas written out."""

from __future__ import annotations

import torch

from cvhpe.models.losses import distance_loss


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
