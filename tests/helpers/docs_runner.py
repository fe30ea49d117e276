"""Run the commands of a documentation page in order and write its files, in a separate environment.

bash runs ``sh`` blocks and stops at the first command that fails. A block after ``<!-- file: PATH -->`` is written
to PATH. ``text`` blocks are skipped; any other block is an error.

By hand: ``python tests/helpers/docs_runner.py PAGE FOLDER [BIN]`` with the ``bin`` folder of an environment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"(?:^<!-- file: (?P<file>\S+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)

BUILDS = (70, 1)
"""First setuptools that builds wheels by itself."""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    line: int
    language: str
    text: str
    file: str | None


def blocks(page: str) -> list[Block]:
    return [
        Block(page.count("\n", 0, m.start()) + 1, m["language"], m["text"], m["file"]) for m in _BLOCK.finditer(page)
    ]


def environment(folder: Path) -> Path:
    """Make a virtual environment on top of this one and return its ``bin``.

    Without pip, because Python 3.11 would add a setuptools that is too old to build; the base environment has one.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    base = sysconfig.get_path("purelib")
    Path(own, "base.pth").write_text(f"import site; site.addsitedir({base!r})\n")
    for name, call in (
        ("pip", "from pip._internal.cli.main import main; sys.exit(main())"),
        ("cvhpe", "from cvhpe.cli import main; sys.exit(main())"),
    ):
        script = folder / "bin" / name
        script.write_text(f"#!{python}\nimport sys\n{call}\n")
        script.chmod(0o755)
    return folder / "bin"


def settings(folder: Path, binaries: Path) -> dict[str, str]:
    """Process environment with ``binaries`` first on PATH, without downloads."""
    ours = {
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "CVHPE_CACHE": os.environ.get("CVHPE_CACHE") or str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
        # The dependencies of a plugin are installed already.
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "COLUMNS": "160",
    }
    kept = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    return kept | ours


def check_builds(binaries: Path) -> None:
    """Fail early if the installed setuptools cannot build packages: nothing is downloaded."""
    found = "from importlib.metadata import version; print(version('setuptools'))"
    asked = subprocess.run([binaries / "python", "-c", found], check=False, capture_output=True, text=True)
    release = asked.stdout.strip() or "none"
    enough = release != "none" and tuple(map(int, release.split(".")[:2])) >= BUILDS
    fix = f"{binaries / 'python'} -m pip install -U 'setuptools>=77'"
    assert enough, f"setuptools there is {release}, but {'.'.join(map(str, BUILDS))} is required; {fix}"


def shell(commands: str, folder: Path, binaries: Path, where: str) -> str:
    """Run commands and return stdout; AssertionError that begins with ``where`` if one fails."""
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", commands],
        cwd=folder,
        env=settings(folder, binaries),
        check=False,
        capture_output=True,
        text=True,
    )
    print(f"{where}: {time.monotonic() - started:.1f} s", flush=True)
    assert done.returncode == 0, f"{where} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def run(page: Path, folder: Path, binaries: Path) -> str:
    """Run a page in ``folder`` and return its output; AssertionError names the block that failed."""
    output = []
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            output.append(shell(block.text, folder, binaries, f"{page.name}:{block.line}"))
        else:
            assert block.language == "text", f"{page}:{block.line}: a block of {block.language!r}, which is not run"
    return "".join(output)


if __name__ == "__main__":
    where = Path(sys.argv[2]).absolute()
    where.mkdir(parents=True, exist_ok=True)
    binaries = Path(sys.argv[3]).absolute() if len(sys.argv) > 3 else environment(where / ".venv")
    check_builds(binaries)
    run(Path(sys.argv[1]), where, binaries)
