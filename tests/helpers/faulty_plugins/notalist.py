"""Gives one modality where a list of them is asked for."""

from helpers.example_modalities import VALID_DOTS

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    return VALID_DOTS
