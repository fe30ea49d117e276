"""What the paper reports, to stand beside a run's own numbers (supplementary, tables 3 and 4; PAPER metadata)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cvhpe.models.pairs import Pair, variant_pairs


@dataclass(frozen=True)
class Reported:
    """One published number: end-point error mm on a data set's evaluation frames, median unless ``mean``."""

    who: str
    data: str
    mm: float
    mean: bool = False


# (input, data set) -> median EPE of variants 1 to 4 under TSH, then of the best variant under each protocol.
_VARIANTS: Mapping[tuple[str, str], tuple[float, ...]] = {
    ("joints2d", "rhd"): (14.68, 15.13, 14.46, 14.83),
    ("rgb", "rhd"): (16.74, 16.97, 16.96, 17.30),
    ("rgb", "stb"): (7.44, 7.39, 7.16, 8.16),
}
_PROTOCOLS: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("joints2d", "rhd"): {"TSH": 14.46, "TS": 14.91, "TH": 16.41, "T": 16.92},
    ("rgb", "rhd"): {"TSH": 16.74, "TS": 16.93, "TH": 18.99, "T": 19.10},
    ("rgb", "stb"): {"TSH": 7.16, "TS": 9.11, "TH": 8.33, "T": 7.78},
}
_BEFORE: Mapping[tuple[str, str], float] = {
    ("joints2d", "rhd"): 18.84,
    ("rgb", "rhd"): 24.49,
    ("rgb", "stb"): 7.52,
}


def reported(source: str, protocol: str, pairs: Sequence[Pair]) -> list[Reported]:
    """The published numbers for an input and protocol; of the run's own variant, where it is one of the paper's.

    >>> [(r.data, r.mm) for r in reported("joints2d", "TSH", variant_pairs(1, ["joints2d", "joints3d"]))]
    [('rhd', 14.68), ('rhd', 18.84)]
    """
    if source == "depth":
        return [
            Reported("paper, ResNet-18", "icvl", 8.5, mean=True),
            Reported("paper, ResNet-50", "icvl", 8.0, mean=True),
            Reported("DeepPrior++", "icvl", 8.1, mean=True),
        ]
    variant = next((v for v in (1, 2, 3, 4) if set(pairs) == set(variant_pairs(v, [source, "joints3d"]))), None)
    found = []
    for (name, data), of_protocol in _PROTOCOLS.items():
        if name != source:
            continue
        if protocol == "TSH" and variant:
            found.append(Reported(f"paper, variant {variant}", data, _VARIANTS[name, data][variant - 1]))
        else:
            found.append(Reported(f"paper, {protocol}, best variant", data, of_protocol[protocol]))
        if protocol == "TSH":
            found.append(Reported("Zimmermann & Brox", data, _BEFORE[name, data]))
    return found
