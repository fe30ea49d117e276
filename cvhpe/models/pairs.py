"""Pairs of input and target modality, and the paper's variants (supplementary, tables 3 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cvhpe.config.lists import comma_list
from cvhpe.errors import UserError, nearest

VARIANTS = (1, 2, 3, 4)


class Pair(NamedTuple):
    """One term of the objective: encode ``source``, decode ``target``."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}:{self.target}"


def parse_pairs(text: str, modalities: Sequence[str]) -> list[Pair]:
    """Read pairs from text.

    Args:
        text: Comma-separated ``INPUT:TARGET``, as in ``rgb:joints3d,rgb:rgb``.
        modalities: The names that pairs may use.

    Returns:
        The pairs in order, each once.

    Raises:
        UserError: A pair is malformed or names another modality, or there is none.

    Example:
        >>> parse_pairs("rgb:joints3d", ["rgb", "joints3d"])
        [Pair(source='rgb', target='joints3d')]
    """
    pairs: list[Pair] = []
    for item in comma_list(text):
        source, colon, target = item.partition(":")
        if not colon or not source or not target:
            raise UserError(f"--pairs: {item!r} is not INPUT:TARGET, as in rgb:joints3d")
        for name in (source, target):
            if name not in modalities:
                raise UserError(
                    f"--pairs: {item} names {name!r}, which --modalities does not list; {nearest(name, modalities)}"
                )
        pair = Pair(source, target)
        if pair not in pairs:
            pairs.append(pair)
    if not pairs:
        raise UserError("--pairs: name at least one pair, as in rgb:joints3d")
    return pairs


def main_target(modalities: Sequence[str]) -> str:
    """The target of the variants: the 3D joints, or else the last modality."""
    return "joints3d" if "joints3d" in modalities else modalities[-1]


def variant_pairs(variant: int, modalities: Sequence[str]) -> list[Pair]:
    """The pairs of one of the paper's variants, for every input modality X and the target, 3D.

    1: X->3D. 2: X->3D, 3D->3D. 3: X->3D, X->X. 4: X->3D, X->X, 3D->3D.

    Args:
        variant: 1 to 4.
        modalities: The run's modalities; :func:`main_target` is the target.

    Returns:
        The pairs.

    Raises:
        UserError: There is no such variant.

    Example:
        >>> [str(p) for p in variant_pairs(4, ["rgb", "joints3d"])]
        ['rgb:joints3d', 'rgb:rgb', 'joints3d:joints3d']
    """
    if variant not in VARIANTS:
        raise UserError(f"--variant {variant}: the paper has variants 1 to 4")
    target = main_target(modalities)
    inputs = [m for m in modalities if m != target]
    if not inputs:
        return [Pair(target, target)]
    pairs: list[Pair] = []
    for x in inputs:
        pairs.append(Pair(x, target))
        if variant in (3, 4):
            pairs.append(Pair(x, x))
    if variant in (2, 4):
        pairs.append(Pair(target, target))
    return pairs


def sources(pairs: Sequence[Pair]) -> list[str]:
    """The modalities that are encoded, each once, in order."""
    return list(dict.fromkeys(p.source for p in pairs))


def targets(pairs: Sequence[Pair]) -> list[str]:
    """The modalities that are decoded, each once, in order."""
    return list(dict.fromkeys(p.target for p in pairs))
