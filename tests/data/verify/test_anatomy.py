"""How fingers bend says left from right."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.dataset_writers import hand

from cvhpe.data.verify.anatomy import finger_bend
from cvhpe.geometry.skeleton import convert, layout


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("name", ["rhd", "stb", "msra", "freihand"])
def test_the_sign_of_the_bend_is_the_side_in_every_layout(name, side, rng) -> None:
    hands = np.stack([hand(rng, side) for _ in range(20)])
    bend = finger_bend(convert(hands, "hand21", name, root="keep"), layout(name))
    assert ((bend > 0) == (side == 1)).all()


def test_the_sign_of_the_bend_is_the_side_of_genuine_rhd_hands(shared_data) -> None:
    with np.load(shared_data / "rhd" / "rhd_evaluation_a.npz") as file:
        bend = finger_bend(file["joints3d_mm"].astype(float), layout("rhd"))
        assert ((bend < 0) == file["is_left"]).mean() > 0.99
