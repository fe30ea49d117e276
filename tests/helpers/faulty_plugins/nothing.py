"""Forgets to return."""

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    pass
