"""The one skeleton plotter, by the data that it puts on the axes."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from cvhpe.geometry.skeleton import layout
from cvhpe.viz.skeleton import fit_axes_3d, infer_layout, plot_hand_2d, plot_hand_3d
from cvhpe.viz.style import empty_figure


def test_joints_and_bones_are_at_their_points_in_the_colours_of_their_fingers(rng):
    axes = empty_figure(2, 2).add_subplot()
    joints, hand = rng.normal(size=(21, 2)), layout("rhd")
    plot_hand_2d(axes, joints, joint_layout="rhd")
    (points,) = axes.collections
    np.testing.assert_allclose(points.get_offsets(), joints)
    assert [to_hex(c) for c in points.get_facecolor()] == [hand.colour(j) for j in range(21)]
    plotted = {
        (tuple(a), tuple(b), to_hex(line.get_color()))
        for line in axes.lines
        for a, b in zip(line.get_xydata()[:-1], line.get_xydata()[1:], strict=True)
        if np.isfinite([a, b]).all()
    }
    assert plotted == {(tuple(joints[a]), tuple(joints[b]), hand.colour(b)) for a, b in hand.bones}
    assert axes.yaxis_inverted()


def test_joints_that_are_not_visible_are_black(rng):
    axes = empty_figure(2, 2).add_subplot()
    visible = np.arange(21) % 2 == 0
    plot_hand_2d(axes, rng.normal(size=(21, 2)), visible=visible, outline=True)
    np.testing.assert_array_equal(axes.collections[0].get_facecolor()[:, :3].any(1), visible)


def test_axes_show_all_of_their_hands(rng):
    axes = empty_figure(2, 2).add_subplot(projection="3d")
    small, large = rng.normal(size=(21, 3)), rng.normal(size=(21, 3)) * 50 + 20
    large[4] = np.nan
    plot_hand_3d(axes, small)
    fit_axes_3d(axes, small, large)
    x, y, z = axes.get_xlim(), axes.get_ylim(), axes.get_zlim()
    for (low, high), values in ((x, large[:, 0]), (y, large[:, 2]), (z, -large[:, 1])):
        assert low < np.nanmin(values)
        assert high > np.nanmax(values)
    assert np.ptp(x) == pytest.approx(np.ptp(y)) == pytest.approx(np.ptp(z))


def test_an_unknown_number_of_joints_is_refused():
    with pytest.raises(ValueError, match="no layout has 5 joints"):
        infer_layout(np.zeros((5, 2)))
