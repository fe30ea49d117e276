"""What may go wrong in the middle of a run, and what is made of it: signals, and losses that are broken."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from cvhpe.data.loader import Batches
from cvhpe.errors import UserError
from cvhpe.runs import serialization
from cvhpe.training.callbacks import Stopped
from cvhpe.training.loss_tracker import Divergence

FAR = 1e6
"""Beyond what any field of a batch may hold: bones, fractions, pixels, mm."""
ODD = 1e3
"""FusionParams many times as large as in the other samples of a batch a field may be in one of them."""


@contextmanager
def stopping_on_signals(ask: Callable[[int], None]) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a wish that the loop answers after its step; a second Ctrl-C ends at once."""
    old: dict[int, Any] = {}

    def handle(number: int, frame: Any) -> None:
        ask(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            old[number] = signal.signal(number, handle)
    except ValueError:
        pass  # not the main thread: whoever runs us there handles signals
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def stop_at_once(number: int) -> NoReturn:
    """For work after the loop, which has nothing to save: what :func:`stopping_on_signals` may ask."""
    raise Stopped(number)


def out_of_memory(error: BaseException) -> bool:
    """Whether what was raised says that memory ran out: Python's, numpy's, or torch's of either device.

    >>> out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."))
    True
    >>> out_of_memory(RuntimeError("shapes differ"))
    False
    """
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def sample_names(batches: Batches, index: Tensor) -> list[str]:
    """What the data sets call the samples of an index ``[B]`` into their concatenation."""
    starts = np.cumsum([0, *(len(p) for p in batches.packs)])
    names = []
    for i in index.tolist():
        which = int(np.searchsorted(starts, i, "right")) - 1
        pack = batches.packs[which]
        row = i - int(starts[which])
        if pack.rows is not None:
            row = int(pack.rows[row])
        names.append(f"{pack.meta.name} {pack.arrays['id'][row]}")
    return names


def faulty_samples(fields: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Field -> the samples of a batch in which it is beyond all reason. NaN is no fault: it marks unlabelled joints.

    >>> faulty_samples({"scale_mm": torch.tensor([30.0, 28.0, 4e4]), "depth_z": torch.tensor([1e9, 1e9, 1e9])})
    {'scale_mm': [2], 'depth_z': [0, 1, 2]}
    """
    found = {}
    for name, values in fields.items():
        if values.is_floating_point():
            largest = values.reshape(len(values), -1).abs().nan_to_num(0.0, posinf=torch.inf).amax(1)
            some = largest[largest > 0]
            odd = ODD * float(some.median()) if len(some) else FAR
            bad = largest > min(odd, FAR)
            if bool(bad.any()):
                found[name] = bad.nonzero()[:, 0].tolist()
    return found


def explain(out: Path, batches: Batches, fields: Mapping[str, Tensor], broken: Divergence, lr: float, best: str) -> str:
    """One line on a broken step; its batch goes to ``broken_steps/`` in the run folder for a closer look.

    fields: of the batch. best: what is left of the run.
    """
    names = sample_names(batches, fields["index"])
    dump = out / "broken_steps" / f"step_{broken.step:08d}.safetensors"
    card = {"step": broken.step, "fault": str(broken), "samples": names}
    kept = f"The batch is in {dump}"
    try:
        serialization.save(dump, {n: t for n, t in fields.items() if t.dim()}, card)
    except UserError as error:  # a full disk must not hide what broke the run
        kept = f"The batch could not be kept ({error})"
    faulty = faulty_samples(fields)
    if faulty:
        field, rows = next(iter(faulty.items()))
        size = float(fields[field][rows[0]].abs().nan_to_num(0.0, posinf=torch.inf).max())
        cause = f"{field} is up to {size:.0e} in {', '.join(names[r] for r in rows[:3])}: mend or leave out that data"
    else:
        few = ", ".join(names[:3])
        cause = f"its batch ({len(names)} samples, {few}, ...) looks sound: start anew with --set lr={lr / 3:.1e}"
    return f"{broken}; {cause}. {kept}; {best}"
