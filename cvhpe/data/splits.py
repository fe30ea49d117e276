"""The packed samples that a run trains on, validates with and is tested on."""

from __future__ import annotations

from dataclasses import dataclass, field

from cvhpe.data.packing.pack import Pack


@dataclass
class Data:
    """The packed samples of a run. ``validation`` chooses the best weights, ``test`` is touched once, at the end.

    test: empty where the data set holds nothing out but its validation samples.
    """

    train: list[Pack]
    validation: list[Pack]
    test: list[Pack]
    notes: list[str] = field(default_factory=list)
