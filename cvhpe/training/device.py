"""The device a run uses, and the type its networks multiply in."""

from __future__ import annotations

import os

import torch

from cvhpe.errors import UserError
from cvhpe.training.distributed import local_device


def pick_device(name: str, local: int = 0) -> torch.device:
    """``auto`` takes a CUDA device where there is one, that of number ``local``; ``cuda`` insists."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here; `cvhpe doctor` says why")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    seen = torch.cuda.device_count()
    local = local_device(os.environ, local, seen)
    if local >= seen:
        raise UserError(f"--nproc: process {local + 1} of this machine has no GPU; it has {seen}")
    return torch.device("cuda", local) if local else torch.device("cuda")


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16 for the networks where asked, or (``auto``) where the hardware multiplies in it; None: float32."""
    if precision == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
        precision = "bfloat16" if native else "float32"
    return torch.bfloat16 if precision == "bfloat16" else None
