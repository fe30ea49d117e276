"""Gives strings for modalities."""

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    return ["oops"]
