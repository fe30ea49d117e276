import math

import pytest
import torch
from pydantic import ValidationError

from cvhpe.augmentation.views import sample_views
from cvhpe.config.schema import Augmentation
from cvhpe.plugin.contract import View, hand_side


def sampled(n=4000, seed=0, **settings):
    return sample_views(torch.full((n,), 0.5), Augmentation(**settings), torch.Generator().manual_seed(seed), 1.5)


def test_samples_fill_their_ranges_and_stay_inside():
    v = sampled(rotation_deg=45, shift=0.1, scale=0.25, flip=0.5)
    assert math.radians(44) < v.angle.abs().max() <= math.radians(45)
    assert 0.099 < v.shift.abs().max() <= 0.1
    assert 1 / 1.25 <= v.scale.min() < 0.81
    assert 1.24 < v.scale.max() <= 1.25
    assert abs(v.flip.float().mean() - 0.5) < 0.03
    assert v.angle.mean().abs() < 0.03
    assert v.margin == 1.5
    torch.testing.assert_close(v.root_shift_weight, torch.full((4000,), 0.5))


def test_samples_depend_on_the_generator_alone():
    torch.testing.assert_close(sampled(seed=3).packed, sampled(seed=3).packed, rtol=0, atol=0)
    assert not torch.equal(sampled(seed=3).packed, sampled(seed=4).packed)


def test_empty_ranges_give_the_identity():
    v = sampled(rotation_deg=0, shift=0, scale=0, flip=0)
    torch.testing.assert_close(v.packed, View.identity(4000).packed)


def test_a_negative_range_is_refused():
    with pytest.raises(ValidationError):
        Augmentation(rotation_deg=-1)


def test_views_are_selected_together():
    v = sampled(n=6)
    rows = torch.tensor([4, 1])
    picked = v.select(rows)
    torch.testing.assert_close(picked.packed, v.packed[rows])
    assert len(picked) == 2
    assert picked.margin == v.margin
    torch.testing.assert_close(v.select(torch.arange(6) > 3).angle, v.angle[4:])


def test_an_unknown_side_is_zero():
    assert hand_side(torch.tensor([0, 1])).tolist() == [[1, 0], [0, 1]]
    assert hand_side(torch.tensor([0, 1]), known=False).tolist() == [[0, 0], [0, 0]]
