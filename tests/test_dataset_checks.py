"""The kit for data sets: an honest one passes, and every check catches what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
from example_datasets import FAULTS, HONEST

from cvhpe.testing import CheckFailed, check_dataset, dataset_checks

CASES = [(check, i) for check, faulty in FAULTS.items() for i in range(len(faulty))]


def test_an_honest_data_set_passes(tmp_path: Path) -> None:
    check_dataset(HONEST, tmp_path)


def test_every_check_has_a_fault_to_catch() -> None:
    assert set(FAULTS) == {c.name for c in dataset_checks(HONEST)}


@pytest.mark.parametrize(("check", "fault"), CASES, ids=[f"{c}-{i}" for c, i in CASES])
def test_every_check_catches_its_faults(tmp_path: Path, check: str, fault: int) -> None:
    checks = {c.name: c for c in dataset_checks(FAULTS[check][fault], tmp_path)}
    with pytest.raises(CheckFailed, match="To mend: ") as caught:
        checks[check]()
    assert len(str(caught.value).splitlines()) == 1


def test_metres_are_recognised(tmp_path: Path) -> None:
    checks = {c.name: c for c in dataset_checks(FAULTS["joints_are_in_mm"][0], tmp_path)}
    with pytest.raises(CheckFailed, match="looks as if metres: multiply by 1000"):
        checks["joints_are_in_mm"]()
