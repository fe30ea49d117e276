"""Takes the name of a built-in modality."""

import dataclasses

from helpers.example_modalities import HONEST_DOTS

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    return [dataclasses.replace(HONEST_DOTS, name="rgb"), HONEST_DOTS]
