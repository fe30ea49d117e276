"""Rules of the code base that no linter has, each as a function that lists its violations.

By hand: ``python tests/helpers/style_checks.py [PATH ...]`` prints those below the given paths.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PRIVATE_WORDS = (
    r"pictures?|photographs?|doubts?|mend(?:ed|s|ing)?|twins?|told|hints?|hinted|coarse|glimpse[ds]?|ledgers?|learners?"
    r"|seen as|say in|has a say|had a say|in turn|turned|turns?|mirrored|honest|typical spread|too cautious"
    r"|the process that speaks|the first process"
)
"""Words that the glossary replaces; ``docs/glossary.md`` gives the word to use instead."""
OLD_SETTINGS = (
    r"(?:hint|coarse|labelled|teacher|keep|validations|accumulate|ema|warmup|width|depth|network|limit|margin|swap"
    r"|noise_px)"
)
OLD_NAMES = (
    # settings, where their syntax tells them from other words
    rf"least_steps|checkpoint_seconds|log_steps|calibration_folds|--set[ =]\"?(?:augmentation\.)?{OLD_SETTINGS}="
    r"|augmentation\.(?:swap|noise_px)"
    # options
    r"|--(?:turns|every|procs|folds|separate|between|hands|hand|trace)(?![\w-])"
    # modules
    r"|cvhpe\.(?:use|pictures|views|swap|turns|doubt|nn|keypoints|losses|feed|ledger|held_out|states|progress|logger"
    r"|faults|metrics|fusion|experts|folds|regions|detect|exported|checkpoint|camera|skeleton|registry|modality)(?!\w)"
)
OLD_IDENTIFIERS = (
    r"look_again|Ledger|Feed|World|Told|Learner|Seen|Held|person_look|say_below|own_gpu|meeting_point|_glimpse|in_turn"
    r"|strayed|read_card|unmeasured|widen"
)
"""Old names of functions and types, in source code only."""
_WORDS = re.compile(rf"(?<![\w.-])(?:{PRIVATE_WORDS})(?![\w-])", re.I)
_IDENTIFIER_WORDS = re.compile(
    r"(?<![a-z])(?:pictures?|photographs?|doubt|twins?|hints?|coarse|glimpse|mend|told|turned|mirrored)(?![a-z])", re.I
)
_OLD_NAMES = re.compile(rf"(?<![\w.-])(?:{OLD_NAMES})")
_OLD_IDENTIFIERS = re.compile(rf"(?<![\w.-])(?:{OLD_IDENTIFIERS})\b(?!-)")
TEXT = {".py", ".md", ".in", ".toml", ".cpp", ".h", ".cu", ".cuh", ".txt", ".js", ".html", ".css", ".sh"}
SEARCHED = ("cvhpe", "plugins", "csrc", "docs", "benchmarks", "tests", "README.md", "CONTRIBUTING.md", "setup.py",
            "pyproject.toml", "CMakeLists.txt")  # fmt: skip
EXEMPT = {"docs/glossary.md", "tests/helpers/style_checks.py"}
NAMEDTUPLE = {"_fields", "_replace", "_asdict", "_make"}
"""Public despite the underscore."""


def text_files(paths: tuple[str, ...] = SEARCHED) -> Iterator[Path]:
    """Every text file below ``paths``, relative to the repository."""
    for name in paths:
        place = ROOT / name
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        for file in files:
            if (
                file.is_file()
                and file.suffix in TEXT
                and not any(p.startswith(".") or p == "build" for p in file.parts)
            ):
                yield file


def private_words(paths: tuple[str, ...] = SEARCHED) -> list[str]:
    """``FILE:LINE: WORD`` for every word and name of the glossary's left column."""
    rows: list[str] = []
    for file in text_files(paths):
        name = file.relative_to(ROOT).as_posix()
        if name in EXEMPT:
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            matches = [*_WORDS.finditer(line), *_IDENTIFIER_WORDS.finditer(line.replace("_", " "))]
            matches += _OLD_NAMES.finditer(line)
            if file.suffix == ".py":
                matches += _OLD_IDENTIFIERS.finditer(line)
            rows += [f"{name}:{number}: {match[0]}" for match in matches]
    return list(dict.fromkeys(rows))


def public_functions(file: Path) -> Iterator[tuple[str, ast.FunctionDef, bool]]:
    """Qualified name, node, and whether it is a method, of the public functions of a file."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node, False
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("_") and part.name != "forward":
                    yield f"{node.name}.{part.name}", part, True


def raises_itself(node: ast.FunctionDef) -> bool:
    """Whether a function has a ``raise`` of its own that names an exception."""
    inner = {id(n) for f in ast.walk(node) if isinstance(f, ast.FunctionDef) and f is not node for n in ast.walk(f)}
    return any(isinstance(n, ast.Raise) and n.exc is not None and id(n) not in inner for n in ast.walk(node))


def docstring_gaps(paths: tuple[str, ...] = ("cvhpe",)) -> list[str]:
    """Public functions with two or more arguments, or that raise, whose docstring lacks a section of Google style."""
    found = []
    for file in text_files(paths):
        name = file.relative_to(ROOT).as_posix()
        if file.suffix != ".py" or not name.startswith("cvhpe/") or name.startswith("cvhpe/cli/"):
            continue  # the docstring of a command is its help
        for title, node, is_method in public_functions(file):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if is_method and not any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list):
                arguments = arguments[1:]
            raising = raises_itself(node)
            if len(arguments) < 2 and not raising:
                continue
            text = ast.get_docstring(node) or ""
            lacks = [s for s in ("Args:",) if arguments and s not in text]
            nothing = node.returns is None or (isinstance(node.returns, ast.Constant) and node.returns.value is None)
            never = isinstance(node.returns, ast.Name) and node.returns.id == "NoReturn"
            if not nothing and not never and "Returns:" not in text and "Yields:" not in text:
                lacks.append("Returns:")
            if raising and "Raises:" not in text:
                lacks.append("Raises:")
            if lacks:
                found.append(f"{name}:{node.lineno}: {title} lacks {', '.join(lacks)}")
    return found


def repeated_names() -> list[str]:
    """Public classes and functions of the package that share a name with another one."""
    places: dict[str, list[str]] = defaultdict(list)
    for file in text_files(("cvhpe",)):
        name = file.relative_to(ROOT).as_posix()
        if file.suffix != ".py" or name.startswith("cvhpe/cli/"):
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                title = node.targets[0].id  # a type's alias
                if title[0].isupper() and not title.isupper() and title != "Array":
                    places[title].append(name)
    return [f"{title}: {', '.join(files)}" for title, files in sorted(places.items()) if len(files) > 1]


def private_access(paths: tuple[str, ...] = ("tests", "benchmarks")) -> list[str]:
    """Tests and benchmarks that touch a name with a leading underscore of a module of the package."""
    found = []
    for file in text_files(paths):
        if file.suffix != ".py":
            continue
        name, tree = file.relative_to(ROOT).as_posix(), ast.parse(file.read_text(encoding="utf-8"))
        own = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        own |= {
            t.attr
            for n in ast.walk(tree)
            if isinstance(n, ast.Assign)
            for t in n.targets
            if isinstance(t, ast.Attribute)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cvhpe"):
                found += [
                    f"{name}:{node.lineno}: {a.name}" for a in node.names if a.name.startswith("_") and a.name != "_C"
                ]
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr) and node.attr not in own | NAMEDTUPLE:
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "_C", "torch", "np"):
                    continue
                if ast.unparse(node).startswith(("torch.", "np.", "sys.", "os.")):
                    continue
                found.append(f"{name}:{node.lineno}: .{node.attr}")
    return found


def long_files(
    paths: tuple[str, ...] = ("cvhpe", "csrc", "tests", "benchmarks", "plugins"), most: int = 400
) -> list[str]:
    """Source files of more than ``most`` lines."""
    counted = ((f, len(f.read_text(encoding="utf-8").splitlines())) for f in text_files(paths) if f.suffix != ".txt")
    return [f"{f.relative_to(ROOT).as_posix()}: {n} lines" for f, n in counted if n > most and f.suffix != ".md"]


def top_level_modules() -> list[str]:
    """Python files directly below ``cvhpe/``."""
    return sorted(f.name for f in (ROOT / "cvhpe").glob("*.py"))


if __name__ == "__main__":
    chosen = tuple(sys.argv[1:]) or SEARCHED
    for check in (private_words, docstring_gaps, private_access, long_files):
        rows = check(chosen)
        print(f"== {check.__name__}: {len(rows)}", *rows, sep="\n")
    if len(sys.argv) == 1:
        print("== repeated_names", *repeated_names(), sep="\n")
