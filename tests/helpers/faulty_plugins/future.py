"""Was written for a later contract."""

import dataclasses

from helpers.example_modalities import VALID_DOTS

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    return [dataclasses.replace(VALID_DOTS, name="event", api=99)]
