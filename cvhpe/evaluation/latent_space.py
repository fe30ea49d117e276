"""Analyses of the latent space: how far modalities mix, and a t-SNE embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cvhpe.errors import UserError
from cvhpe.evaluation.eval_set import EvalSet
from cvhpe.runs.run_dir import Run

Array = np.ndarray
NUM_FOLDS = 5
MIN_HANDS = 4 * NUM_FOLDS
NUM_NEIGHBOURS = 15


@dataclass(frozen=True)
class LatentMeans:
    """Posterior means of some hands in several modalities.

    Attributes:
        names: The modalities.
        means: ``(N, D)``.
        modality: ``(N,)`` index into ``names``.
        row: ``(N,)`` number of the held-out sample.
    """

    names: list[str]
    means: Array
    modality: Array
    row: Array


@dataclass(frozen=True)
class ModalityAccuracy:
    """Modality classification accuracy: how well a classifier infers the modality from a latent mean.

    Balanced over modalities: ``chance`` if they mix perfectly, 1 if they do not mix. Errors are standard errors over
    cross-validation folds.

    Attributes:
        accuracy: Of a k-nearest-neighbour classifier.
        error: Its standard error.
        linear: Of logistic regression.
        linear_error: Its standard error.
        chance: One over the number of modalities.
    """

    accuracy: float
    error: float
    linear: float
    linear_error: float
    chance: float

    def __str__(self) -> str:
        return f"{self.accuracy:.2f} ± {self.error:.2f}"


def latent_means(eval_set: EvalSet, count: int, encoder_run: Run | None = None) -> LatentMeans:
    """Encode held-out hands in each input modality.

    The modalities share the hands if at least :data:`MIN_HANDS` hands have all of them.

    Args:
        eval_set: The held-out samples.
        count: The most hands a modality.
        encoder_run: Another run to encode with.

    Returns:
        The posterior means.

    Raises:
        UserError: No sample has an input of the run.
    """
    means, modality, rows = [], [], []
    shared_rows = eval_set.sample_rows(count, *eval_set.inputs)
    for k, name in enumerate(eval_set.inputs):
        own = shared_rows if len(shared_rows) >= MIN_HANDS else eval_set.sample_rows(count, name)
        if not len(own):
            continue
        mu = eval_set.encode(name, own, encoder_run).mu.numpy()
        finite = np.isfinite(mu).all(1)
        means.append(mu[finite])
        modality.append(np.full(int(finite.sum()), k))
        rows.append(own[finite])
    if not means:
        raise UserError(f"{eval_set.run.path}: no held-out sample has anything that this run encodes")
    return LatentMeans(list(eval_set.inputs), np.concatenate(means), np.concatenate(modality), np.concatenate(rows))


def sklearn(module: str) -> Any:
    """Import a module of scikit-learn.

    Args:
        module: Its name below ``sklearn``.

    Returns:
        The module.

    Raises:
        UserError: scikit-learn is not installed.
    """
    import importlib

    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError:
        raise UserError("t-SNE needs scikit-learn: pip install 'cvhpe[figures]'") from None


def modality_accuracy(latents: LatentMeans, seed: int = 0) -> ModalityAccuracy:
    """Classify the modality of latent means, cross-validated over hands.

    All modalities of a hand are in one fold: in training, a test hand would be its own nearest neighbour.

    Args:
        latents: Posterior means of at least two modalities.
        seed: Of the folds.

    Returns:
        The accuracies.

    Raises:
        UserError: A modality has fewer than :data:`MIN_HANDS` hands.
        ValueError: There is one modality only.
    """
    present, modality = np.unique(latents.modality, return_inverse=True)
    if len(present) < 2:
        raise ValueError("modality_accuracy: needs at least two modalities")
    fewest = int(np.bincount(modality).min())
    if fewest < MIN_HANDS:
        raise UserError(f"modality classification takes {MIN_HANDS} held-out hands of each; this data has {fewest}")
    hands, hand = np.unique(latents.row, return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(len(hands)) % NUM_FOLDS)[hand]
    select, pipeline = sklearn("model_selection"), sklearn("pipeline").make_pipeline

    def cross_validate(classifier: Any) -> tuple[float, float]:
        scores = select.cross_val_score(
            classifier, latents.means, modality, scoring="balanced_accuracy", cv=select.PredefinedSplit(fold)
        )
        return float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(NUM_FOLDS))

    knn = sklearn("neighbors").KNeighborsClassifier(min(NUM_NEIGHBOURS, fewest // 4))
    scaler = sklearn("preprocessing").StandardScaler()
    linear = pipeline(scaler, sklearn("linear_model").LogisticRegression(max_iter=1000))
    return ModalityAccuracy(*cross_validate(knn), *cross_validate(linear), 1 / len(present))


def tsne(latents: LatentMeans, seed: int = 0) -> Array:
    """Embed posterior means of all modalities by t-SNE.

    Args:
        latents: ``N`` posterior means.
        seed: Of the embedding.

    Returns:
        ``(N, 2)``, centred, the larger half side 1.
    """
    n = len(latents.means)
    model = sklearn("manifold").TSNE(init="pca", perplexity=min(30.0, max(1.0, (n - 1) / 4)), random_state=seed)
    points = model.fit_transform(latents.means.astype(np.float64))
    points -= (points.max(0) + points.min(0)) / 2
    return points / max(float(np.abs(points).max()), 1e-12)
