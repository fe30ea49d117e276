"""``cvhpe figures`` as a user sees it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cvhpe.cli import app
from cvhpe.errors import UserError


def command(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_it_prints_the_files_and_the_reasons_of_what_is_left_out(lift, tmp_path):
    done = command("figures", lift, "--only", "interpolation,depth", "--out", tmp_path, "--interpolate", "1,2")
    assert done.exit_code == 0, done.output
    assert f"interpolation: {tmp_path}/interpolation.png, {tmp_path}/interpolation.pdf" in done.output
    assert "depth: left out: this run encodes joints2d, joints3d, not depth" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "tsen"], "did you mean 'tsne'"),
        (["--only", "interpolation", "--interpolate", "1,900"], "the held-out hands are 0 to 63"),
        (["--only", "interpolation", "--interpolate", "one"], "write two numbers"),
    ],
)
def test_wrong_options_are_one_line(lift, arguments, message):
    done = command("figures", lift, *arguments)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
