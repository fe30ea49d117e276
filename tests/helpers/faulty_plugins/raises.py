"""Its hook raises."""

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    raise RuntimeError("no camera\nfound")
