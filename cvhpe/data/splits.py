"""The packed samples that a run trains on, validates with and is tested on."""

from __future__ import annotations

from dataclasses import dataclass, field

from cvhpe.data.packing.pack import Pack


@dataclass
class DataSplits:
    """The packed samples of a run.

    Attributes:
        train: samples to train on.
        validation: samples that choose the best weights.
        test: samples for the evaluation at the end; empty if the data set holds out validation samples only.
        notes: lines for the user about the splits.
    """

    train: list[Pack]
    validation: list[Pack]
    test: list[Pack]
    notes: list[str] = field(default_factory=list)
