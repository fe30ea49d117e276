"""Modality classification accuracy on latents with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from cvhpe.errors import UserError
from cvhpe.evaluation import latent_space
from cvhpe.evaluation.latent_space import LatentMeans, latent_means, modality_accuracy, tsne

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def two(means: np.ndarray, rows: np.ndarray | None = None) -> LatentMeans:
    """Two modalities of ``means`` ``(2, n, D)``."""
    n = means.shape[1]
    row = np.tile(np.arange(n), 2) if rows is None else rows
    return LatentMeans(["a", "b"], means.reshape(2 * n, -1), np.repeat([0, 1], n), row)


def test_accuracy_is_chance_for_equal_distributions(rng):
    accuracy = modality_accuracy(two(rng.normal(size=(2, 400, 8))))
    assert accuracy.chance == 0.5
    assert abs(accuracy.accuracy - 0.5) < 0.07
    assert abs(accuracy.linear - 0.5) < 0.07


def test_accuracy_is_one_for_separate_clusters(rng):
    means = rng.normal(size=(2, 100, 8))
    means[1, :, 3] += 12
    accuracy = modality_accuracy(two(means))
    assert accuracy.accuracy == accuracy.linear == 1.0


def test_linear_classifier_uses_directions_of_small_variance(rng):
    means = rng.normal(size=(2, 300, 30))
    means[..., 0] *= 0.01
    means[1, :, 0] += 0.2
    accuracy = modality_accuracy(two(means))
    assert accuracy.linear > 0.98
    assert accuracy.accuracy < 0.75


def test_folds_keep_the_modalities_of_a_hand_together(rng):
    """Both modalities of a hand have one latent; if both were in one training set, every guess would be the other."""
    points = rng.normal(size=(200, 6)) * 100
    accuracy = modality_accuracy(two(np.stack([points, points + rng.normal(size=points.shape) * 1e-3])))
    assert 0.35 < accuracy.accuracy < 0.65


def test_too_few_hands_are_an_error(rng):
    with pytest.raises(UserError, match="takes 20 held-out hands"):
        modality_accuracy(two(rng.normal(size=(2, 10, 4))))


def test_tsne_separates_clusters_and_is_deterministic(rng):
    means = rng.normal(size=(2, 60, 8))
    means[1] += 20
    latents = two(means)
    points = tsne(latents)
    assert points.shape == (120, 2)
    assert np.abs(points).max() == pytest.approx(1)
    centres = np.stack([points[latents.modality == k].mean(0) for k in (0, 1)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=-1).argmin(1)
    assert (nearest == latents.modality).mean() > 0.97
    np.testing.assert_array_equal(points, tsne(latents))


def test_latent_means_are_of_the_same_hands(held_lift):
    latents = latent_means(held_lift, 30)
    assert latents.names == ["joints2d", "joints3d"]
    a, b = (latents.row[latents.modality == k] for k in (0, 1))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(latents.means[latents.modality == 1], held_lift.encode("joints3d", b).mu.numpy())


def test_missing_scikit_learn_is_an_error(monkeypatch):
    import builtins

    real = builtins.__import__

    def no_sklearn(name, *rest, **more):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr("importlib.import_module", no_sklearn)
    with pytest.raises(UserError, match=r"pip install 'cvhpe\[figures\]'"):
        latent_space.sklearn("svm")
