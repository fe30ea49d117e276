"""Supplies one name twice."""

from helpers.example_modalities import VALID_DOTS

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    return [VALID_DOTS, VALID_DOTS]
