"""``python -m cvhpe`` is the command line."""

from cvhpe.cli import main

main()
