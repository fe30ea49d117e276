"""Its hook wants an argument."""

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities(config):
    return []
