"""Misspells the hook."""

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalites():
    return []
