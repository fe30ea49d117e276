"""Its hook is a generator that raises after the first modality."""

from helpers.example_modalities import HONEST_DOTS

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    yield HONEST_DOTS
    raise OSError("calibration file missing")
