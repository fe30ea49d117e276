"""Gives its modality a name that cannot be one."""

import dataclasses

from helpers.example_modalities import VALID_DOTS

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    return [dataclasses.replace(VALID_DOTS, name="Thermal Camera")]
