"""``cvhpe plugins`` and ``cvhpe doctor`` as a user sees them."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.fake_distributions import install, valid_source

from cvhpe.cli import main
from cvhpe.plugin.registry import registry

TESTS = Path(__file__).parents[1]
PARTS = ["python", "torch", "kernels", "plugins", "data"]
Cvhpe = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cvhpe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cvhpe]:
    """Run the command line in this process: ``(exit code, stdout, stderr)``; plugins lie in ``tmp_path``."""

    def run(*words: object, **env: str) -> tuple[int, str, str]:
        for name, value in {"COLUMNS": "200", **env}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["cvhpe", *map(str, words)])
        registry.cache_clear()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    monkeypatch.syspath_prepend(tmp_path)
    for variable in ("CVHPE_DISABLE_PLUGINS", "CVHPE_STRICT_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)
    yield run
    registry.cache_clear()


def fault(err: str) -> str:
    """The one line that a mistake ends in."""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    return lines[0]


def test_list_shows_state_and_reason(cvhpe: Cvhpe, tmp_path: Path) -> None:
    for name in ("importerr", "takesrgb", "wrongarg"):
        install(tmp_path, name)
    install(tmp_path, "good", valid_source("good"))
    install(tmp_path, "off", valid_source("off"))
    code, out, _ = cvhpe("plugins", "list", CVHPE_DISABLE_PLUGINS="cvhpe-off,cvhpe-misspelt")
    assert code == 0
    rows = {line.split("│")[1].strip(): line for line in out.splitlines() if line.startswith("│")}
    assert " ok " in rows["good"]
    assert " ok " in rows["joints3d"]
    assert "cvhpe-importerr 1.0" in rows["importerr"]
    assert "broken" in rows["importerr"]
    assert "disabled" in rows["off"]
    assert "importerr of cvhpe-importerr 1.0: ModuleNotFoundError: No module named 'not_a_module'" in out
    assert "'rgb' is a built-in's name" in out
    assert "CVHPE_DISABLE_PLUGINS names 'cvhpe-misspelt', which is not installed" in out
    assert "Traceback" not in out
    _, traced, _ = cvhpe("plugins", "list", "--traceback")
    assert "Traceback" in traced
    assert "import not_a_module" in traced


def test_strict_is_one_line_and_exit_code_2(cvhpe: Cvhpe, tmp_path: Path) -> None:
    install(tmp_path, "raises")
    code, _, err = cvhpe("plugins", "list", CVHPE_STRICT_PLUGINS="1")
    assert code == 2
    assert fault(err).startswith("error: plugin cvhpe-raises 1.0")


def test_check_reports_and_exits(cvhpe: Cvhpe, tmp_path: Path) -> None:
    install(tmp_path, "good", valid_source("good"))
    source = valid_source("bad").replace("api=1)", "api=1, loss=faulty_modalities.loss_with_a_root)")
    install(tmp_path, "bad", f"from helpers import faulty_modalities\n{source}")
    code, out, err = cvhpe("plugins", "check", "good")
    assert code == 0, out + err
    assert out.count("passed") > 20
    code, out, err = cvhpe("plugins", "check", "bad", "--only", "loss_is")
    assert code == 2
    assert "loss_is_differentiable: the gradient at the target is NaN or infinite. Fix: avoid sqrt" in out
    assert fault(err) == "error: bad: 1 of 3 checks failed; the lines above say how to fix them"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check", "joint3d"), "did you mean 'joints3d'?"),
        (("check", "rgb", "--path", "."), "--path is for data sets"),
        (("check", "joints2d", "--only", "colour"), "no such check"),
        (("check", "stb", "--path", "TMP"), "TMP"),
        (("new", "Thermal"), "lower_snake_case"),
        (("new", "a__b"), "single underscores"),
        (("new", "thermal_"), "lower_snake_case"),
        (("new", "_thermal"), "lower_snake_case"),
        (("new", "thermal-camera"), "lower_snake_case"),
        (("new", "wärme"), "lower_snake_case"),
        (("new", ""), "lower_snake_case"),
        (("new", "lambda"), "is a Python keyword"),
        (("new", "rgb"), "is a built-in's"),
        (("new", "rhd"), "is a built-in's"),
        (("new", "datasets"), "is a built-in's"),
        (("new", "thermal", "--out", "TMP"), "is not empty"),
        (("new", "thermal", "--out", "TMP/file"), "cannot be written"),
    ],
)
def test_mistakes_are_one_line(cvhpe: Cvhpe, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    (tmp_path / "file").touch()
    code, _, err = cvhpe("plugins", *(w.replace("TMP", str(tmp_path)) for w in words))
    assert code == 2
    assert message.replace("TMP", str(tmp_path)) in fault(err)


@pytest.mark.parametrize(("name", "dist"), [("thermal", "cvhpe-thermal"), ("event_rate", "cvhpe-event-rate")])
def test_new_writes_a_whole_package(cvhpe: Cvhpe, tmp_path: Path, name: str, dist: str) -> None:
    folder = tmp_path / "new"
    code, out, _ = cvhpe("plugins", "new", name, "--out", folder)
    assert code == 0
    assert f"pip install -e {folder}" in out
    assert {p.name for p in folder.iterdir()} == {
        "pyproject.toml",
        "README.md",
        f"cvhpe_{name}.py",
        f"test_{name}.py",
    }
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == dist
    assert project["entry-points"]["cvhpe.modalities"] == {name: f"cvhpe_{name}"}
    assert not any("$" in p.read_text() for p in folder.iterdir())
    for command in (["check"], ["format", "--check"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--line-length", "120", "--isolated", folder], check=True
        )


def test_doctor_finds_no_problem(cvhpe: Cvhpe) -> None:
    code, out, err = cvhpe("doctor")
    assert code == 0, out + err
    assert [w for w in (line.split()[0] for line in out.splitlines()) if w in PARTS] == PARTS


def test_doctor_only_notes_a_broken_outsider(cvhpe: Cvhpe, tmp_path: Path) -> None:
    install(tmp_path, "exits")
    code, out, _ = cvhpe("doctor")
    assert code == 0
    assert "exits of cvhpe-exits 1.0 is broken: SystemExit: calls exit" in out


@pytest.mark.parametrize("module", ["torch", "cvhpe.ops", "cvhpe.io.cache", "cvhpe_rgb"])
def test_doctor_works_when_a_part_is_broken(tmp_path: Path, module: str) -> None:
    """A finder put before all others breaks one module; the others are still reported."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Divergence:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: raise OSError('libfoo.so.9: cannot open shared object file')\n"
        "sys.meta_path.insert(0, Divergence())\n"
    )
    path = os.pathsep.join(p for p in (str(tmp_path), os.environ.get("PYTHONPATH")) if p)
    done = subprocess.run(
        [sys.executable, "-c", "from cvhpe.cli import main; main()", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "libfoo.so.9: cannot open shared object file" in done.stdout
    assert fault(done.stderr).startswith("error: broken: ")
    assert [w for w in (line.split()[0] for line in done.stdout.splitlines()) if w in PARTS] == PARTS
