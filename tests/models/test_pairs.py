import pytest

from cvhpe.errors import UserError
from cvhpe.models.pairs import Pair, parse_pairs, sources, targets, variant_pairs

TABLE = {
    1: ["rgb:joints3d"],
    2: ["rgb:joints3d", "joints3d:joints3d"],
    3: ["rgb:joints3d", "rgb:rgb"],
    4: ["rgb:joints3d", "rgb:rgb", "joints3d:joints3d"],
}


@pytest.mark.parametrize("variant", TABLE)
def test_variants_are_those_of_the_paper(variant):
    assert [str(p) for p in variant_pairs(variant, ["rgb", "joints3d"])] == TABLE[variant]
    assert [str(p) for p in variant_pairs(variant, ["joints3d", "rgb"])] == TABLE[variant]


def test_a_variant_of_many_modalities_turns_each_into_the_3d_joints():
    pairs = variant_pairs(1, ["rgb", "depth", "joints2d", "joints3d"])
    assert [str(p) for p in pairs] == ["rgb:joints3d", "depth:joints3d", "joints2d:joints3d"]
    assert variant_pairs(4, ["rgb"]) == [Pair("rgb", "rgb")]
    assert variant_pairs(1, ["rgb", "thermal"]) == [Pair("rgb", "thermal")]


def test_sources_and_targets_come_once_and_in_order():
    pairs = parse_pairs("b:a, b:b,a:a,b:a", ["a", "b"])
    assert [str(p) for p in pairs] == ["b:a", "b:b", "a:a"]
    assert sources(pairs) == ["b", "a"]
    assert targets(pairs) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rgb", "'rgb' is not INPUT:TARGET"),
        ("rgb:", "is not INPUT:TARGET"),
        ("rgb:joint3d", "names 'joint3d', which --modalities does not list; did you mean 'joints3d'?"),
        ("", "at least one pair"),
    ],
)
def test_pairs_that_cannot_be_are_one_line(text, says):
    with pytest.raises(UserError, match="--pairs") as caught:
        parse_pairs(text, ["rgb", "joints3d"])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variant", [0, 5])
def test_there_are_four_variants(variant):
    with pytest.raises(UserError, match="1 to 4"):
        variant_pairs(variant, ["rgb", "joints3d"])
