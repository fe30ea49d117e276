"""The latent space in numbers: means of every modality, how well they can be told apart, and their t-SNE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cvhpe.errors import UserError
from cvhpe.evaluation.eval_set import EvalSet
from cvhpe.runs.run_dir import Run

Array = np.ndarray
FOLDS = 5
LEAST = 4 * FOLDS
NEIGHBOURS = 15


@dataclass(frozen=True)
class Space:
    """Latent means ``(N, D)`` of some hands, each seen in several modalities.

    modality: ``(N,)``, a number into ``names``. row: ``(N,)``, which held-out sample it is.
    """

    names: list[str]
    means: Array
    modality: Array
    row: Array


@dataclass(frozen=True)
class Mixing:
    """FusionParams well modalities are told apart by where their latents lie, on hands that were not learned from.

    Both accuracies count every modality the same, are ``chance`` where the modalities are perfectly mixed and 1
    where each keeps to itself; the errors are standard errors over the folds. accuracy: by nearest neighbours,
    which is what an eye sees in a t-SNE. linear: by the best plane of the full space, which may find a direction
    that no picture shows.
    """

    accuracy: float
    error: float
    linear: float
    linear_error: float
    chance: float

    def __str__(self) -> str:
        return f"{self.accuracy:.2f} ± {self.error:.2f}"


def embed(held: EvalSet, count: int, by: Run | None = None) -> Space:
    """Encode at most ``count`` held-out hands in each modality that the run encodes; ``by``: another run's encoders.

    The same hands stand for every modality as far as they have it.
    """
    means, modality, rows = [], [], []
    everywhere = held.some(count, *held.inputs)
    for k, name in enumerate(held.inputs):
        own = everywhere if len(everywhere) >= LEAST else held.some(count, name)
        if not len(own):
            continue
        mu = held.encode(name, own, by).mu.numpy()
        fine = np.isfinite(mu).all(1)
        means.append(mu[fine])
        modality.append(np.full(int(fine.sum()), k))
        rows.append(own[fine])
    if not means:
        raise UserError(f"{held.run.path}: no held-out sample has anything that this run encodes")
    return Space(list(held.inputs), np.concatenate(means), np.concatenate(modality), np.concatenate(rows))


def sklearn(module: str) -> Any:
    """A module of scikit-learn, or how to get it."""
    import importlib

    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError:
        raise UserError("t-SNE needs scikit-learn: pip install 'cvhpe[figures]'") from None


def mixing(space: Space, seed: int = 0) -> Mixing:
    """Tell modalities apart by neighbours and by planes, cross-validated over hands.

    A hand is in one fold with all its modalities: no classifier has seen the hand that it is asked about, which
    in another modality would be its own nearest neighbour.
    """
    present, modality = np.unique(space.modality, return_inverse=True)
    if len(present) < 2:
        raise ValueError("one modality has nothing to be told apart from")
    least = int(np.bincount(modality).min())
    if least < LEAST:
        raise UserError(f"telling modalities apart takes {LEAST} held-out hands of each; this data has {least}")
    hands = np.unique(space.row)
    fold_of = dict(zip(hands.tolist(), np.random.default_rng(seed).permutation(len(hands)) % FOLDS, strict=True))
    fold = np.array([fold_of[r] for r in space.row.tolist()])
    select, pipe = sklearn("model_selection"), sklearn("pipeline").make_pipeline

    def judged(machine: Any) -> tuple[float, float]:
        scores = select.cross_val_score(
            machine, space.means, modality, scoring="balanced_accuracy", cv=select.PredefinedSplit(fold)
        )
        return float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(FOLDS))

    neighbours = sklearn("neighbors").KNeighborsClassifier(min(NEIGHBOURS, least // 4))
    plane = pipe(sklearn("preprocessing").StandardScaler(), sklearn("linear_model").LogisticRegression(max_iter=1000))
    return Mixing(*judged(neighbours), *judged(plane), 1 / len(present))


def tsne(space: Space, seed: int = 0) -> Array:
    """A t-SNE embedding ``(N, 2)`` of all means together, centred, its larger half side 1."""
    n = len(space.means)
    model = sklearn("manifold").TSNE(init="pca", perplexity=min(30.0, max(1.0, (n - 1) / 4)), random_state=seed)
    at = model.fit_transform(space.means.astype(np.float64))
    at -= (at.max(0) + at.min(0)) / 2
    return at / max(float(np.abs(at).max()), 1e-12)
