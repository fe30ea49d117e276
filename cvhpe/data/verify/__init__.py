"""Checks of data on disk: labels, images, counts."""
