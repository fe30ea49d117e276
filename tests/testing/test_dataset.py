"""A valid data set passes the conformance kit, and every check catches its faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.example_datasets import FAULTS, VALID, with_fields, with_thermal

from cvhpe.errors import DataError
from cvhpe.plugin.registry import registry
from cvhpe.plugin.sample import Sample
from cvhpe.testing import CheckFailed, check_dataset, dataset_checks

CASES = [(check, i) for check, faulty in FAULTS.items() for i in range(len(faulty))]


def test_a_valid_data_set_passes(tmp_path: Path) -> None:
    check_dataset(VALID, tmp_path)


def test_images_of_unknown_names_pass(tmp_path: Path) -> None:
    for make in (lambda rgb: rgb, lambda rgb: rgb[..., 0], lambda rgb: rgb[..., 0].astype("uint16")):
        checks = {c.name: c for c in dataset_checks(with_thermal(make), tmp_path)}
        checks["samples_are_complete"]()


def test_every_check_has_a_fault_to_catch(tmp_path: Path) -> None:
    assert set(FAULTS) == {c.name for c in dataset_checks(VALID, tmp_path)}


def test_a_folder_that_is_not_the_data_set_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        dataset_checks(VALID, tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["rhd", "interhand2.6m"])
def test_genuine_coco_style_labels_pass(shared_data: Path, name: str) -> None:
    check_dataset(registry().dataset("coco"), shared_data / "mmpose" / name)


def test_genuine_joints_pass(shared_data: Path) -> None:
    check_dataset(registry().dataset("joints"), shared_data / "rhd" / "rhd_evaluation_a.npz")


@pytest.mark.parametrize(("check", "fault"), CASES, ids=[f"{c}-{i}" for c, i in CASES])
def test_every_check_catches_its_faults(tmp_path: Path, check: str, fault: int) -> None:
    checks = {c.name: c for c in dataset_checks(FAULTS[check][fault], tmp_path)}
    with pytest.raises(CheckFailed, match="Fix: ") as caught:
        checks[check]()
    assert len(str(caught.value).splitlines()) == 1


def test_bent_fingers_are_in_order(tmp_path: Path) -> None:
    def bend(s: Sample) -> np.ndarray:
        xyz = s.joints3d_mm.copy()
        for base in range(1, 21, 4):
            way = (xyz[base] - xyz[0]) / np.linalg.norm(xyz[base] - xyz[0])
            xyz[base + 1 : base + 4] = xyz[base] + np.outer([30, 10, -10], way) - [[0, 0, 15], [0, 0, 30], [0, 0, 15]]
        return xyz

    checks = {c.name: c for c in dataset_checks(with_fields(joints3d_mm=bend), tmp_path)}
    checks["joint_order_is_the_layouts"]()


def test_metres_are_recognised(tmp_path: Path) -> None:
    checks = {c.name: c for c in dataset_checks(FAULTS["joints_are_in_mm"][0], tmp_path)}
    with pytest.raises(CheckFailed, match="looks like metres: multiply by 1000"):
        checks["joints_are_in_mm"]()
