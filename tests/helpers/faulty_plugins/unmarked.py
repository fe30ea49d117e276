"""Forgets the decorator."""


def cvhpe_modalities():
    return []
