"""Needs a module that is not there."""

import not_a_module  # noqa: F401
