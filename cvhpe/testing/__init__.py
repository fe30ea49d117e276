"""Conformance checks of modalities and data sets; a failure says how to fix it.

In a test file::

    import pytest
    from cvhpe.testing import modality_checks

    @pytest.mark.parametrize("check", modality_checks(MODALITY))
    def test_contract(check):
        check()

From the shell: ``cvhpe plugins check NAME``. The kit needs no pytest.
"""

from __future__ import annotations

from cvhpe.testing.check import Check, CheckFailed, Outcome
from cvhpe.testing.dataset import check_dataset, dataset_checks
from cvhpe.testing.fakes import fake_fields, random_view
from cvhpe.testing.kit import check_modality, modality_checks

__all__ = [
    "Check",
    "CheckFailed",
    "Outcome",
    "check_dataset",
    "check_modality",
    "dataset_checks",
    "fake_fields",
    "modality_checks",
    "random_view",
]
