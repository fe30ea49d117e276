"""Published results to compare a run with (supplementary, tables 3 and 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cvhpe.models.pairs import Pair, variant_pairs


@dataclass(frozen=True)
class PublishedResult:
    """One published end-point error on the evaluation frames of a data set: the median, or the mean if ``is_mean``."""

    method: str
    data: str
    epe_mm: float
    is_mean: bool = False


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
_ZIMMERMANN: Mapping[tuple[str, str], float] = {
    ("joints2d", "rhd"): 18.84,
    ("rgb", "rhd"): 24.49,
    ("rgb", "stb"): 7.52,
}


def published_results(source: str, protocol: str, pairs: Sequence[Pair]) -> list[PublishedResult]:
    """The published results of an input: of the run's variant if the paper has it, else of the best one.

    Args:
        source: The input modality.
        protocol: TSH, TS, TH or T.
        pairs: The pairs of the run.

    Returns:
        The results; none for inputs that the paper does not evaluate.

    Example:
        >>> pairs = variant_pairs(1, ["joints2d", "joints3d"])
        >>> [(r.data, r.epe_mm) for r in published_results("joints2d", "TSH", pairs)]
        [('rhd', 14.68), ('rhd', 18.84)]
    """
    if source == "depth":
        return [
            PublishedResult("paper, ResNet-18", "icvl", 8.5, is_mean=True),
            PublishedResult("paper, ResNet-50", "icvl", 8.0, is_mean=True),
            PublishedResult("DeepPrior++", "icvl", 8.1, is_mean=True),
        ]
    variant = next((v for v in (1, 2, 3, 4) if set(pairs) == set(variant_pairs(v, [source, "joints3d"]))), None)
    results = []
    for (name, data), by_protocol in _PROTOCOLS.items():
        if name != source:
            continue
        if protocol == "TSH" and variant:
            results.append(PublishedResult(f"paper, variant {variant}", data, _VARIANTS[name, data][variant - 1]))
        else:
            results.append(PublishedResult(f"paper, {protocol}, best variant", data, by_protocol[protocol]))
        if protocol == "TSH":
            results.append(PublishedResult("Zimmermann & Brox", data, _ZIMMERMANN[name, data]))
    return results
