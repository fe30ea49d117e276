"""FusionParams well modalities are told apart: known answers, and hands that must not be known twice."""

from __future__ import annotations

import numpy as np
import pytest

from cvhpe.errors import UserError
from cvhpe.evaluation import latent_space
from cvhpe.evaluation.latent_space import Space, embed, mixing, tsne

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def two(means: np.ndarray, rows: np.ndarray | None = None) -> Space:
    """Two modalities of ``means`` ``(2, n, D)``."""
    n = means.shape[1]
    row = np.tile(np.arange(n), 2) if rows is None else rows
    return Space(["a", "b"], means.reshape(2 * n, -1), np.repeat([0, 1], n), row)


def test_the_same_distribution_cannot_be_told_apart(rng):
    found = mixing(two(rng.normal(size=(2, 400, 8))))
    assert found.chance == 0.5
    assert abs(found.accuracy - 0.5) < 0.07
    assert abs(found.linear - 0.5) < 0.07


def test_apart_is_one(rng):
    means = rng.normal(size=(2, 100, 8))
    means[1, :, 3] += 12
    found = mixing(two(means))
    assert found.accuracy == found.linear == 1.0


def test_a_plane_sees_what_neighbours_do_not(rng):
    means = rng.normal(size=(2, 300, 30))
    means[..., 0] *= 0.01
    means[1, :, 0] += 0.2
    found = mixing(two(means))
    assert found.linear > 0.98
    assert found.accuracy < 0.75


def test_a_hand_is_never_its_own_neighbour(rng):
    """Each hand in the very same place in both modalities, in tight clusters of its own: nothing to tell apart by.

    Were a hand's other modality among the neighbours, every guess would be the other one.
    """
    at = rng.normal(size=(200, 6)) * 100
    found = mixing(two(np.stack([at, at + rng.normal(size=at.shape) * 1e-3])))
    assert 0.35 < found.accuracy < 0.65


def test_few_hands_are_refused(rng):
    with pytest.raises(UserError, match="takes 20 held-out hands"):
        mixing(two(rng.normal(size=(2, 10, 4))))


def test_tsne_keeps_clusters_together_and_repeats_itself(rng):
    means = rng.normal(size=(2, 60, 8))
    means[1] += 20
    s = two(means)
    at = tsne(s)
    assert at.shape == (120, 2)
    assert np.abs(at).max() == pytest.approx(1)
    centres = np.stack([at[s.modality == k].mean(0) for k in (0, 1)])
    nearest = np.linalg.norm(at[:, None] - centres, axis=-1).argmin(1)
    assert (nearest == s.modality).mean() > 0.97
    np.testing.assert_array_equal(at, tsne(s))


def test_embedding_is_the_encoders_means_of_the_same_hands(held_lift):
    s = embed(held_lift, 30)
    assert s.names == ["joints2d", "joints3d"]
    a, b = (s.row[s.modality == k] for k in (0, 1))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(s.means[s.modality == 1], held_lift.encode("joints3d", b).mu.numpy())


def test_without_scikit_learn_it_is_said_how_to_get_it(monkeypatch):
    import builtins

    real = builtins.__import__

    def no_sklearn(name, *rest, **more):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr("importlib.import_module", no_sklearn)
    with pytest.raises(UserError, match=r"pip install 'cvhpe\[figures\]'"):
        latent_space.sklearn("svm")
