"""Data sets: one reader a file, ``prepare`` (pack once) and the loader."""
