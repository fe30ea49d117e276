"""``cvhpe doctor``: the state of the installation, one part after another."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import typer

Mark = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Finding:
    """One line: ``broken`` keeps cvhpe from working, a ``note`` does not."""

    mark: Mark
    text: str


def doctor() -> None:
    """Check the installation: Python, torch, kernels, plugins, data. Exit code 2 if something necessary is broken.

    Example: cvhpe doctor
    """
    broken = []
    for name, check in CHECKS.items():
        findings = _findings(check)
        for i, finding in enumerate(findings):
            mark = typer.style(f"{finding.mark:7}", fg={"ok": "green", "note": "yellow", "broken": "red"}[finding.mark])
            typer.echo(f"{name if i == 0 else '':9}{mark}{finding.text}")
        broken += [name for f in findings if f.mark == "broken"]
    if broken:
        typer.echo(f"error: broken: {', '.join(dict.fromkeys(broken))}; the lines above say why", err=True)
        raise typer.Exit(2)


def _findings(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """The findings of a check; an exception is one, too."""
    findings = []
    try:
        for finding in check():
            findings.append(finding)
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split()) or "no message"
        findings.append(Finding("broken", f"{type(error).__name__}: {text}"))
    return findings


def _python() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    where = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {sys.prefix}"
    try:
        yield Finding("ok", f"cvhpe {version('cvhpe')}, {where}")
    except PackageNotFoundError:
        yield Finding("broken", f"cvhpe is not installed in this {where}: pip install .")


def _torch() -> Iterator[Finding]:
    import torch

    threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"
    yield Finding("ok", f"torch {torch.__version__}, {threads}")
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            yield Finding("ok", f"GPU {i}: {torch.cuda.get_device_name(i)}")
    elif torch.version.cuda is None:
        yield Finding("note", "no GPU: this torch is built for the CPU only")
    else:
        yield Finding(
            "note", f"no GPU: torch is built for CUDA {torch.version.cuda}, but there is no usable driver or device"
        )
    import torchvision

    yield Finding("ok", f"torchvision {torchvision.__version__}")


def _kernels() -> Iterator[Finding]:
    from cvhpe import ops

    state = ops.kernel_state()
    yield Finding("ok" if state.loaded else "note", state.reason)
    if not state.loaded:
        yield Finding("note", "the reference implementations compute the same, slower")
    if state.build:
        yield Finding("ok", ", ".join(f"{k} {v}" for k, v in state.build.items() if v))


def _plugins() -> Iterator[Finding]:
    from cvhpe.plugin.registry import registry, unknown_in_disable_list

    plugins = registry().plugins
    usable = [m for p in plugins if p.state == "ok" for m in p.modalities]
    if not any(p.is_builtin for p in plugins):
        yield Finding("broken", "the built-in modalities are missing: pip install .")
    else:
        yield Finding("ok", f"modalities {', '.join(usable) or 'none'}")
    for p in plugins:
        if p.state != "ok":
            mark: Mark = "broken" if p.is_builtin and p.state == "broken" else "note"
            yield Finding(mark, f"{p.name} of {p.package} is {p.state}: {p.error}")
    for word in unknown_in_disable_list(plugins):
        yield Finding("note", f"CVHPE_DISABLE_PLUGINS names {word!r}, which is not installed")


def _data() -> Iterator[Finding]:
    from cvhpe.io.cache import cache_dir
    from cvhpe.plugin.registry import registry

    folder = cache_dir()
    free = shutil.disk_usage(folder).free / 1e9
    yield Finding("ok" if free > 2 else "note", f"cache {folder}, {free:.1f} GB free")
    yield Finding("ok", f"data sets {', '.join(registry().datasets) or 'none'}")


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": _python,
    "torch": _torch,
    "kernels": _kernels,
    "plugins": _plugins,
    "data": _data,
}
