"""Its hook is a generator that raises after the first modality."""

from helpers.example_modalities import VALID_DOTS

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    yield VALID_DOTS
    raise OSError("calibration file missing")
