from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvhpe.evaluation.metrics import auc, epe_per_joint, errors, frames_within, pa_mpjpe, pck, procrustes, summary


def paper_metric(pred, target, visible) -> dict:
    """The paper's metric from its description, in plain Python."""
    joints = range(len(pred[0]))
    means, medians, curves = [], [], []
    thresholds = [50 * i / 19 for i in range(20)]
    for j in joints:
        # "For each joint, over the frames where it is visible: Euclidean error"
        e = [math.dist(p[j], t[j]) for p, t, v in zip(pred, target, visible, strict=True) if v[j]]
        if not e:
            continue  # "a joint never visible is left out"
        means.append(math.fsum(e) / len(e))
        medians.append(statistics.median(e))
        # "PCK per joint: the fraction of errors <= t"
        curves.append([sum(x <= t for x in e) / len(e) for t in thresholds])
    curve = [math.fsum(c[i] for c in curves) / len(curves) for i in range(20)]

    def area(ys, xs):
        trapezia = [(b - a) * (y + z) / 2 for a, b, y, z in zip(xs, xs[1:], ys, ys[1:], strict=False)]
        return math.fsum(trapezia) / (xs[-1] - xs[0])

    return {
        "mean": math.fsum(means) / len(means),
        "median": math.fsum(medians) / len(medians),
        "pck": curve,
        "auc_0_50": area(curve, thresholds),
        "auc_20_50": area(curve[8:], thresholds[8:]),
        "first": thresholds[8],
    }


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 12), j=st.sampled_from([14, 16, 21]), share=st.floats(0.05, 1), seed=st.integers(0, 10**6))
def test_summary_follows_the_paper(n, j, share, seed) -> None:
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 40, (n, j, 3))
    pred = target + rng.normal(0, 18, (n, j, 3))
    pred[:, 0] = target[:, 0]  # the root, whose error is zero, counts
    visible = rng.random((n, j)) < share
    visible[0, 1] = True
    visible[:, 2] = False
    ours = summary(pred, target, visible)
    expected = paper_metric(pred.tolist(), target.tolist(), visible.tolist())
    assert ours.epe_mean == pytest.approx(expected["mean"], abs=1e-9)
    assert ours.epe_median == pytest.approx(expected["median"], abs=1e-9)
    assert ours.auc_0_50 == pytest.approx(expected["auc_0_50"], abs=1e-9)
    assert ours.auc_20_50 == pytest.approx(expected["auc_20_50"], abs=1e-9)
    assert np.abs(ours.pck - expected["pck"]).max() < 1e-9
    assert expected["first"] == pytest.approx(21.05, abs=0.01)
    assert np.isnan(ours.per_joint_mean[2])


def test_summary_of_known_errors() -> None:
    target = np.zeros((4, 2, 3))
    pred = np.zeros((4, 2, 3))
    pred[:, 1, 0] = [10, 20, 30, 1000]
    visible = np.array([[1, 1], [1, 1], [1, 1], [1, 0]], bool)
    s = summary(pred, target, visible)
    assert (s.epe_mean, s.epe_median) == (10.0, 10.0)
    # joint 1 is within 21.05 mm in two of three frames, within 31.58 in three
    assert s.pck[8] == pytest.approx((1 + 2 / 3) / 2)
    assert s.pck[12] == 1.0
    d = s.as_dict(["root", "tip"])
    assert d["per_joint"]["tip"] == {"epe_mean_mm": 20.0, "epe_median_mm": 20.0}
    assert d["frames"] == 4
    assert len(d["pck"]["thresholds_mm"]) == len(d["pck"]["values"]) == 20
    with pytest.raises(ValueError, match="3 joint names for 2 joints"):
        s.as_dict(["a", "b", "c"])


def test_only_invisible_joints_may_be_nan() -> None:
    target = np.zeros((2, 3, 3))
    target[1, 2] = np.nan
    visible = np.ones((2, 3), bool)
    with pytest.raises(ValueError, match="joint 2 of frame 1"):
        summary(target, np.zeros_like(target), visible)
    visible[1, 2] = False
    assert summary(np.zeros_like(target), target, visible).pa_mpjpe == 0
    assert summary(np.zeros_like(target), target, visible).as_dict("abc")["per_joint"]["c"]["epe_mean_mm"] == 0


def test_no_visible_joint_gives_nan() -> None:
    mean, median = epe_per_joint(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), np.zeros((2, 3)))
    assert np.isnan(mean).all()
    assert np.isnan(median).all()
    assert np.isnan(pck(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), np.zeros((2, 3)))).all()
    assert math.isnan(summary(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), np.zeros((2, 3))).epe_median)


def rotation(rng) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10))
def test_procrustes_undoes_a_similarity(seed, scale) -> None:
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 40, (5, 21, 3))
    pred = np.stack([scale * t @ rotation(rng) + rng.normal(0, 100, 3) for t in target])
    assert np.allclose(procrustes(pred, target), target, atol=1e-6)
    assert pa_mpjpe(pred, target) < 1e-6


@given(seed=st.integers(0, 10**6))
def test_no_small_change_of_the_alignment_is_better(seed) -> None:
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 40, (1, 21, 3))
    pred = target + rng.normal(0, 20, (1, 21, 3))
    best = procrustes(pred, target)
    cost = (errors(best, target) ** 2).sum()
    for _ in range(5):
        w = rng.normal(0, 1e-3, 3)
        rotate = np.eye(3) + np.array([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]])
        rotate, _ = np.linalg.qr(rotate)
        rotate = rotate * np.sign(np.diag(rotate))
        other = (1 + rng.normal(0, 1e-3)) * best @ rotate + rng.normal(0, 0.05, 3)
        assert (errors(other, target) ** 2).sum() >= cost - 1e-9


def test_procrustes_does_not_reflect(rng) -> None:
    target = rng.normal(0, 40, (3, 21, 3))
    assert pa_mpjpe(target * [-1, 1, 1], target) > 5


def test_procrustes_on_too_few_joints() -> None:
    """One visible joint determines only the shift."""
    target = np.random.default_rng(0).normal(0, 40, (2, 21, 3))
    visible = np.zeros((2, 21), bool)
    visible[0, 4] = True
    assert pa_mpjpe(target + 100, target, visible) == pytest.approx(0, abs=1e-9)
    assert math.isnan(pa_mpjpe(target, target, np.zeros((2, 21), bool)))


def test_frames_within_takes_the_worst_visible_joint() -> None:
    target = np.zeros((3, 2, 3))
    pred = target.copy()
    pred[0, 1, 0], pred[1, 0, 1], pred[1, 1, 0], pred[2, 0, 0] = 10, 20, 40, 5
    assert frames_within(pred, target, np.array([4, 5, 10, 39, 40])).tolist() == pytest.approx(
        [0, 1 / 3, 2 / 3, 2 / 3, 1]
    )
    visible = np.array([[1, 1], [1, 0], [0, 0]])
    assert frames_within(pred, target, np.array([10, 20]), visible).tolist() == [0.5, 1]
    # mean errors of the frames: 5, 20 over its only visible joint, none
    assert frames_within(pred, target, np.array([5, 10, 20]), visible, of="mean").tolist() == [0.5, 0.5, 1]
    assert np.isnan(frames_within(pred, target, np.array([5]), np.zeros((3, 2)), of="mean")).all()


def test_summary_has_the_curves_of_depth_benchmarks() -> None:
    target = np.zeros((2, 2, 3))
    pred = target.copy()
    pred[:, 1, 0] = 12, 60
    d = summary(pred, target).as_dict(["root", "tip"])
    thresholds = d["frames_within_max_error"]["thresholds_mm"]
    assert thresholds == d["frames_within_mean_error"]["thresholds_mm"] == [5.0 * i for i in range(17)]
    assert d["frames_within_max_error"]["values"] == [0.5 * (t >= 12) + 0.5 * (t >= 60) for t in thresholds]
    assert d["frames_within_mean_error"]["values"] == [0.5 * (t >= 6) + 0.5 * (t >= 30) for t in thresholds]


def test_auc_of_constants() -> None:
    t = np.linspace(0, 50, 20)
    assert auc(np.ones(20), t) == pytest.approx(1)
    assert auc(np.zeros(20), t) == 0


def test_shape_errors_name_the_shape() -> None:
    with pytest.raises(ValueError, match=r"\(2, 21, 2\)"):
        errors(np.zeros((2, 21, 2)), np.zeros((2, 21, 2)))
    with pytest.raises(ValueError, match=r"visible \(1, 21\)"):
        summary(np.zeros((2, 21, 3)), np.zeros((2, 21, 3)), np.ones((1, 21)))
