"""Was written for a later contract."""

import dataclasses

from helpers.example_modalities import HONEST_DOTS

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    return [dataclasses.replace(HONEST_DOTS, name="event", api=99)]
