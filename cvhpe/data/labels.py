"""Few 3D labels: training samples of which only a share keeps them, as where 2D is easy to annotate and 3D is not.

The share is drawn sample by sample, not group by group: a few frames of every recording, which is how one would
choose what to annotate. Which they are follows from the run's seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cvhpe.data.pack import Pack
from cvhpe.data.sample import Array
from cvhpe.errors import UserError
from cvhpe.pairs import Pair
from cvhpe.registry import registry


def few_labels(pack: Pack, share: float, seed: int, pairs: Sequence[Pair]) -> Pack:
    """The samples of a pack that pairs can use once only a ``share`` of them has 3D joints.

    Samples without 3D joints serve pairs such as 2D -> 2D; where the run has no such pair, they are left out, and
    what remains is training on the labelled samples alone. Where they stay, the labelled ones are repeated until
    they are half of all, so that every batch has some.
    """
    rows = np.arange(pack.meta.count) if pack.rows is None else pack.rows
    labelled = np.flatnonzero(pack["has_joints3d"])
    many = round(share * len(labelled))
    if not many:
        raise UserError(f"labelled {share}: of {len(labelled)} samples with 3D joints that leaves none")
    kept = np.random.default_rng([seed, 3]).permutation(labelled)[:many]
    hidden = rows[np.setdiff1d(np.arange(len(rows)), kept)]
    arrays = dict(pack.arrays)
    for name, nothing in (("joints3d_mm", np.nan), ("has_joints3d", False), ("scale_mm", 1.0)):
        arrays[name] = np.array(arrays[name])
        arrays[name][hidden] = nothing
    few = replace(pack, arrays=arrays)
    useful = np.flatnonzero(served(few, pairs))
    unlabelled = np.setdiff1d(useful, kept)
    times = max(1, round(len(unlabelled) / many))
    return few.subset(np.sort(np.concatenate([unlabelled, np.repeat(kept, times)])))


def served(pack: Pack, pairs: Sequence[Pair]) -> Array:
    """``(N,)`` bool: the samples that have all that one of the pairs needs."""
    found = np.zeros(len(pack), bool)
    for pair in pairs:
        has = np.ones(len(pack), bool)
        for name in pair:
            for field in registry().modality(name).reads:
                if f"has_{field}" in pack:
                    has &= pack[f"has_{field}"]
        found |= has
    return found
