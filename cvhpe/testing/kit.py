"""All checks of a modality, put together."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cvhpe.plugin.contract import Modality, ModelShape
from cvhpe.testing import geometry, networks, samples
from cvhpe.testing.check import Check, make_checks, raise_failures
from cvhpe.testing.subject import Subject

TESTS = (*samples.TESTS, *networks.TESTS, *geometry.TESTS)
SMALL = ModelShape(image_size=64)


def modality_checks(
    modality: Modality,
    *,
    expected_failures: Mapping[str, str] | None = None,
    fields: Mapping[str, Tensor] | None = None,
) -> list[Check]:
    """The checks of a modality, for ``pytest.mark.parametrize``; each is called without arguments.

    They run on the modality as configured for pictures of 64 pixels, which is quick on a CPU.

    expected_failures: check -> reason, for the exceptions; such a check fails when it passes.
    fields: a small stored batch, where the modality reads fields that only its own data set brings.

    Raises ValueError where ``expected_failures`` names a check that does not exist.
    """
    return make_checks(TESTS, Subject(modality, modality.sized(SMALL), fields), expected_failures)


def check_modality(
    modality: Modality,
    *,
    expected_failures: Mapping[str, str] | None = None,
    fields: Mapping[str, Tensor] | None = None,
) -> None:
    """Run every check; AssertionError that lists all failures, each with how to mend it."""
    raise_failures(modality.name, modality_checks(modality, expected_failures=expected_failures, fields=fields))
