"""All conformance checks of a modality."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cvhpe.plugin.contract import Modality, ModelShape
from cvhpe.testing import geometry, networks, samples
from cvhpe.testing.check import Check, make_checks, raise_failures
from cvhpe.testing.modality_under_test import ModalityUnderTest

TESTS = (*samples.TESTS, *networks.TESTS, *geometry.TESTS)
SMALL = ModelShape(image_size=64)


def modality_checks(
    modality: Modality,
    *,
    expected_failures: Mapping[str, str] | None = None,
    fields: Mapping[str, Tensor] | None = None,
) -> list[Check]:
    """List the checks of a modality, for ``pytest.mark.parametrize``; each is called without arguments.

    They run on the modality as configured for images of 64 pixels, which is fast on a CPU.

    Args:
        modality: The modality.
        expected_failures: check -> reason why it is known to fail; such a check fails if it passes.
        fields: A small stored batch, where the modality reads fields of its own data set.

    Returns:
        The checks. ``ValueError`` if ``expected_failures`` names an unknown check.
    """
    return make_checks(TESTS, ModalityUnderTest(modality, modality.sized(SMALL), fields), expected_failures)


def check_modality(
    modality: Modality,
    *,
    expected_failures: Mapping[str, str] | None = None,
    fields: Mapping[str, Tensor] | None = None,
) -> None:
    """Run every check of a modality; raise :class:`CheckFailed` with all failures and their fixes.

    Args:
        modality: The modality.
        expected_failures: check -> reason why it is known to fail; such a check fails if it passes.
        fields: A small stored batch, where the modality reads fields of its own data set.
    """
    raise_failures(modality.name, modality_checks(modality, expected_failures=expected_failures, fields=fields))
