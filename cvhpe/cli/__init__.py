"""The command line: one file a command; heavy imports are inside the commands, so that ``--help`` is fast."""

from __future__ import annotations

import errno
import os
import sys

import typer

from cvhpe.cli import data, plugins
from cvhpe.cli.calibrate import calibrate
from cvhpe.cli.doctor import doctor
from cvhpe.cli.evaluate import evaluate
from cvhpe.cli.export import export
from cvhpe.cli.figures import figures
from cvhpe.cli.help import use_docstrings
from cvhpe.cli.model import model
from cvhpe.cli.predict import predict
from cvhpe.cli.report import report
from cvhpe.cli.train import train
from cvhpe.errors import UserError

app = typer.Typer(
    name="cvhpe",
    help="Cross-modal hand pose estimation: one latent space for RGB images, depth images, 2D and 3D joints.\n\n"
    "Example: cvhpe train --modalities rgb,joints3d\n\n"
    "Example: cvhpe train --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train)
app.command()(evaluate)
app.command()(calibrate)
app.command()(figures)
app.command()(report)
app.command()(predict)
app.command()(export)
app.command()(model)
app.add_typer(data.app, name="data")
app.add_typer(plugins.app, name="plugins")
app.command()(doctor)
use_docstrings(app)


def main() -> None:
    """Run the command line; an error that the user can fix is one line and exit code 2."""
    try:
        _run()
    except SystemExit as end:
        distributed = sys.modules.get("cvhpe.training.distributed")  # not imported by --help
        if distributed is not None and distributed.has_joined and isinstance(end.code, int | None):
            distributed.exit_now(end.code or 0)
        raise


def _run() -> None:
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        from cvhpe.training.diagnostics import out_of_memory

        if not out_of_memory(error):
            raise
        print("error: out of memory", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"error: {error.filename or 'the output'}: the disk is full; free some space there", file=sys.stderr)
        # discard what stdout still buffers: flushing it at exit would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(2)
