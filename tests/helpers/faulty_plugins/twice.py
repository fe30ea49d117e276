"""Supplies one name twice."""

from helpers.example_modalities import HONEST_DOTS

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    return [HONEST_DOTS, HONEST_DOTS]
