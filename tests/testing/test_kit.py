"""Valid modalities pass the conformance kit, and every check catches its faults."""

from __future__ import annotations

import pytest
from helpers.example_modalities import VALID_DOTS, VALID_GREY
from helpers.faulty_modalities import FAULTS, dots, loss_with_a_root

from cvhpe.plugin.contract import Modality
from cvhpe.plugin.registry import registry
from cvhpe.testing import CheckFailed, check_modality, modality_checks

BUILT_IN = ("rgb", "depth", "joints2d", "joints3d", "rays")
CASES = [(check, i) for check, faulty in FAULTS.items() for i in range(len(faulty))]


@pytest.mark.parametrize("modality", [VALID_DOTS, VALID_GREY], ids=lambda m: m.name)
def test_valid_modalities_pass(modality: Modality) -> None:
    check_modality(modality)


def test_every_check_has_a_fault_to_catch() -> None:
    assert set(FAULTS) == {c.name for c in modality_checks(VALID_DOTS)}


@pytest.mark.parametrize(("check", "fault"), CASES, ids=[f"{c}-{i}" for c, i in CASES])
def test_every_check_catches_its_faults(check: str, fault: int) -> None:
    checks = {c.name: c for c in modality_checks(FAULTS[check][fault])}
    with pytest.raises(CheckFailed, match="Fix: ") as caught:
        checks[check]()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("check", [c.name for c in modality_checks(VALID_DOTS)])
def test_built_in_modalities_pass(name: str, check: str) -> None:
    modality = registry().modality(name)
    next(c for c in modality_checks(modality) if c.name == check)()


def test_an_expected_failure_must_fail() -> None:
    reason = "the square root is intended"
    with_root = {
        c.name: c
        for c in modality_checks(dots(loss=loss_with_a_root), expected_failures={"loss_is_differentiable": reason})
    }
    outcome = with_root["loss_is_differentiable"].outcome()
    assert (outcome.result, outcome.detail) == ("expected failure", reason)
    valid = {c.name: c for c in modality_checks(VALID_DOTS, expected_failures={"loss_is_differentiable": reason})}
    with pytest.raises(CheckFailed, match="take it out of expected_failures"):
        valid["loss_is_differentiable"]()


def test_an_expected_failure_must_exist() -> None:
    with pytest.raises(ValueError, match="no check: loss_is_nice"):
        modality_checks(VALID_DOTS, expected_failures={"loss_is_nice": "?"})


def test_all_failures_are_listed_at_once() -> None:
    with pytest.raises(CheckFailed) as caught:
        check_modality(dots(loss=loss_with_a_root, encoder=dict))
    text = str(caught.value)
    assert "loss_is_differentiable: the gradient at the target is NaN" in text
    assert "encoder_gives_a_posterior: raised TypeError" in text


def test_an_exception_in_a_plugin_names_its_file_and_line() -> None:
    checks = {c.name: c for c in modality_checks(dots(encoder=dict))}
    with pytest.raises(CheckFailed, match=r"raised TypeError: .*\(.*\.py:\d+\)\. Fix: the encoder gives Posterior"):
        checks["encoder_gives_a_posterior"]()
