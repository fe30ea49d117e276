"""Ends the program when imported."""

import sys

sys.exit("licence check failed")
