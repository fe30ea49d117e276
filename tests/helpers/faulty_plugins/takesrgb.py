"""Takes the name of a built-in modality."""

import dataclasses

from helpers.example_modalities import VALID_DOTS

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    return [dataclasses.replace(VALID_DOTS, name="rgb"), VALID_DOTS]
