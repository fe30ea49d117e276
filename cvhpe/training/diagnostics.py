"""What to report when a run fails: memory that ran out, and the data behind a divergence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cvhpe.data.loader import Batches
from cvhpe.errors import UserError
from cvhpe.plugin.contract import Fields
from cvhpe.runs import serialization
from cvhpe.training.loss_tracker import Divergence

MAX_VALUE = 1e6
"""No field of a batch holds larger values: bones, fractions, pixels, mm."""
MAX_RATIO = 1e3
"""A sample's values may be at most this many times the median of its batch."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: Python's, numpy's, or torch's on either device.

    >>> out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."))
    True
    >>> out_of_memory(RuntimeError("shapes differ"))
    False
    """
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def sample_names(loader: Batches, index: Tensor) -> list[str]:
    """The data sets' names of samples.

    Args:
        loader: gives the batches of the run.
        index: ``[B]`` into the concatenation of its packs.

    Returns:
        Data set and id of each.
    """
    starts = np.cumsum([0, *(len(p) for p in loader.packs)])
    names = []
    for i in index.tolist():
        number = int(np.searchsorted(starts, i, "right")) - 1
        pack = loader.packs[number]
        names.append(f"{pack.meta.name} {pack['id'][i - int(starts[number])]}")
    return names


def implausible_samples(fields: Fields) -> dict[str, list[int]]:
    """Field -> the samples of a batch with implausibly large values. NaN is plausible: it marks unlabelled joints.

    >>> implausible_samples({"scale_mm": torch.tensor([30.0, 28.0, 4e4]), "depth_z": torch.tensor([1e9, 1e9, 1e9])})
    {'scale_mm': [2], 'depth_z': [0, 1, 2]}
    """
    implausible = {}
    for name, values in fields.items():
        if values.is_floating_point():
            sizes = _sizes(values)
            nonzero = sizes[sizes > 0]
            limit = min(MAX_RATIO * float(nonzero.median()), MAX_VALUE) if len(nonzero) else MAX_VALUE
            if bool((sizes > limit).any()):
                implausible[name] = (sizes > limit).nonzero()[:, 0].tolist()
    return implausible


def _sizes(values: Tensor) -> Tensor:
    """Largest absolute value of each sample."""
    return values.reshape(len(values), -1).abs().nan_to_num(0.0, posinf=torch.inf).amax(1)


def explain_divergence(
    divergence: Divergence, fields: Mapping[str, Tensor], loader: Batches, out: Path, lr: float
) -> str:
    """Describe a step that no run can continue from, and save its batch to ``diverged_steps/`` in the run folder.

    Args:
        divergence: the step and its loss.
        fields: the batch, of all processes.
        loader: gives the batches of the run.
        out: the run folder.
        lr: learning rate of the step.

    Returns:
        One line: the loss, the likely cause, what to do, and where the batch is.
    """
    names = sample_names(loader, fields["index"])
    implausible = implausible_samples(fields)
    if implausible:
        field, rows = next(iter(implausible.items()))
        size = float(_sizes(fields[field])[rows[0]])
        cause = f"{field} is up to {size:.0e} in {', '.join(names[r] for r in rows[:3])}: fix or leave out that data"
    else:
        first = ", ".join(names[:3])
        cause = f"its batch ({len(names)} samples, {first}, ...) is plausible: start anew with --set lr={lr / 3:.1e}"
    path = out / "diverged_steps" / f"step_{divergence.step:08d}.safetensors"
    metadata = {"step": divergence.step, "divergence": str(divergence), "samples": names}
    where = f"The batch is in {path}"
    try:
        serialization.save(path, {n: t for n, t in fields.items() if t.dim()}, metadata)
    except UserError as error:  # a full disk must not hide the divergence
        where = f"The batch could not be saved ({error})"
    return f"{divergence}; {cause}. {where}"
