"""Has no hook at all."""

VALUE = 1
