"""Random views for the operator tests."""

from __future__ import annotations

import torch

from cvhpe.plugin.contract import View


def draw_view(rows: int, device: str = "cpu") -> View:
    """Random views from torch's default generator."""
    return View(
        angle=(torch.randn(rows) * 3).to(device),
        scale=(torch.rand(rows) + 0.5).to(device),
        shift=torch.randn(rows, 2).to(device),
        flip=(torch.rand(rows) > 0.5).to(device),
        root_shift_weight=torch.rand(rows).to(device),
    )
