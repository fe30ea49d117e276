from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvhpe.errors import UserError
from cvhpe.geometry.skeleton import LAYOUTS, convert, layout, permutation

TWENTY_ONE = sorted(name for name, skeleton in LAYOUTS.items() if len(skeleton) == 21)

# From the data sets' own descriptions, joint by joint, independent of the index lists in the module.
NATIVE = {
    "rhd": "root thumb_tip thumb_ip thumb_mcp thumb_cmc index_tip index_dip index_pip index_mcp middle_tip "
    "middle_dip middle_pip middle_mcp ring_tip ring_dip ring_pip ring_mcp little_tip little_dip little_pip little_mcp",
    "stb": "root little_mcp little_pip little_dip little_tip ring_mcp ring_pip ring_dip ring_tip middle_mcp "
    "middle_pip middle_dip middle_tip index_mcp index_pip index_dip index_tip thumb_cmc thumb_mcp thumb_ip thumb_tip",
    "msra": "root index_mcp index_pip index_dip index_tip middle_mcp middle_pip middle_dip middle_tip ring_mcp "
    "ring_pip ring_dip ring_tip little_mcp little_pip little_dip little_tip thumb_cmc thumb_mcp thumb_ip thumb_tip",
    "fphab": "root thumb_cmc index_mcp middle_mcp ring_mcp little_mcp thumb_mcp thumb_ip thumb_tip index_pip "
    "index_dip index_tip middle_pip middle_dip middle_tip ring_pip ring_dip ring_tip little_pip little_dip little_tip",
    "freihand": "root thumb_cmc thumb_mcp thumb_ip thumb_tip index_mcp index_pip index_dip index_tip middle_mcp "
    "middle_pip middle_dip middle_tip ring_mcp ring_pip ring_dip ring_tip little_mcp little_pip little_dip little_tip",
}


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_the_joints_stand_where_the_data_set_puts_them(name: str) -> None:
    assert layout(name).joints == tuple(NATIVE[name].split())


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_layout_is_a_tree_on_its_root(name: str) -> None:
    skeleton = layout(name)
    assert len(set(skeleton.joints)) == len(skeleton)
    reached = {skeleton.root}
    for parent, child in skeleton.bones:
        assert parent in reached, "bones go from the root outwards"
        assert child not in reached, "every joint has one parent"
        reached.add(child)
    assert reached == set(range(len(skeleton)))
    on_fingers = [j for chain in skeleton.fingers.values() for j in chain]
    assert len(set(on_fingers)) == len(on_fingers)
    assert skeleton.root not in on_fingers
    for finger, chain in skeleton.fingers.items():
        assert all(skeleton.joints[j].startswith(finger) for j in chain)
        assert skeleton.joints[chain[-1]].endswith("tip")


@pytest.mark.parametrize("name", TWENTY_ONE)
def test_scale_bone_and_palm_are_the_middle_finger(name: str) -> None:
    skeleton = layout(name)
    assert tuple(skeleton.joints[j] for j in skeleton.scale_bone) == ("middle_pip", "middle_mcp")
    assert (skeleton.palm is None) == (skeleton.root_kind == "palm")
    if skeleton.palm is not None:
        assert (skeleton.palm[0], skeleton.joints[skeleton.palm[1]]) == (skeleton.root, "middle_mcp")


def test_rhd_indices_of_the_paper() -> None:
    assert layout("rhd").scale_bone == (11, 12)
    assert layout("hand21").scale_bone == (10, 9)


@given(src=st.sampled_from(TWENTY_ONE), dst=st.sampled_from(TWENTY_ONE), k=st.integers(1, 4), seed=st.integers(0, 99))
def test_any_two_layouts_of_21_convert_without_loss(src: str, dst: str, k: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(2, 21, k)).astype(np.float32)
    converted = convert(x, src, dst, root="keep")
    assert np.array_equal(convert(converted, dst, src, root="keep"), x)
    for joint in layout(src).joints:
        assert np.array_equal(x[:, layout(src).index(joint)], converted[:, layout(dst).index(joint)])


@given(src=st.sampled_from(TWENTY_ONE), dst=st.sampled_from(TWENTY_ONE), seed=st.integers(0, 99))
def test_moving_the_root_comes_back(src: str, dst: str, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(3, 21, 3))
    assert np.allclose(convert(convert(x, src, dst, root="move"), dst, src, root="move"), x, atol=1e-12)


def test_wrist_and_palm_roots_are_refused_by_default() -> None:
    with pytest.raises(UserError, match=r"'rhd' is a wrist, that of 'stb' a palm"):
        convert(np.zeros((21, 3)), "rhd", "stb")


@pytest.mark.parametrize(("src", "dst"), [("icvl16", "hand21"), ("hand21", "icvl16"), ("nyu14", "icvl16")])
def test_layouts_of_different_joints_are_refused(src: str, dst: str) -> None:
    with pytest.raises(UserError, match="they label different joints"):
        permutation(src, dst)


def test_unknown_names_and_shapes() -> None:
    with pytest.raises(UserError, match=r"unknown joint layout 'freehand'; did you mean 'freihand'\?"):
        layout("freehand")
    with pytest.raises(UserError, match=r"\(20, 3\).*needs \(\.\.\., 21, k\)"):
        convert(np.zeros((20, 3)), "rhd", "hand21")
    with pytest.raises(UserError, match=r"did you mean 'index_mcp'"):
        layout("rhd").index("index_mpc")
    assert layout("onehand10k") is layout("coco21")


def test_the_bones_of_a_genuine_skeleton_are_rigid_in_our_order(shared_data) -> None:
    """Were a joint misnamed, a bone would change its length with the pose."""
    lines = (shared_data / "msra" / "joint.txt").read_text().splitlines()[1:]
    xyz = np.array([line.split() for line in lines], float).reshape(-1, 21, 3)
    skeleton = layout("msra")
    lengths = np.stack([np.linalg.norm(xyz[:, a] - xyz[:, b], axis=-1) for a, b in skeleton.bones], 1)
    vary = lengths.std(0) / lengths.mean(0)
    saddle = skeleton.bones.index((skeleton.root, skeleton.index("thumb_cmc")))  # the joint that slides
    assert np.delete(vary, saddle).max() < 1e-3


def test_no_torch() -> None:
    modules = "cvhpe.geometry.skeleton, cvhpe.geometry.camera, cvhpe.evaluation.metrics"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
