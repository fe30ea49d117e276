"""Ends the program when its hook is called."""

import sys

from cvhpe import hookimpl


@hookimpl
def cvhpe_modalities():
    sys.exit(3)
