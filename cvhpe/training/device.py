"""The device of a run, and the type that its networks multiply in."""

from __future__ import annotations

import os

import torch

from cvhpe.errors import UserError
from cvhpe.training.distributed import local_device


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of this process.

    Args:
        name: ``auto`` takes a CUDA device if there is one, ``cuda`` insists on it, ``cpu`` takes none.
        local_rank: number of this process on its machine.

    Returns:
        The device.

    Raises:
        UserError: If there is no CUDA device, or none for this process.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here; `cvhpe doctor` says why")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    num_visible = torch.cuda.device_count()
    number = local_device(os.environ, local_rank, num_visible)
    if number >= num_visible:
        raise UserError(f"--nproc: process {number + 1} of this machine has no GPU; it has {num_visible}")
    return torch.device("cuda", number) if number else torch.device("cuda")


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The type for autocast.

    Args:
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the hardware multiplies in it.
        device: of the networks.

    Returns:
        The type; None for float32.
    """
    if precision == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
        precision = "bfloat16" if native else "float32"
    return torch.bfloat16 if precision == "bfloat16" else None
