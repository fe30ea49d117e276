"""One check: a callable with a name, that fails with what is wrong and how to mend it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn
from unittest import SkipTest

Result = Literal["passed", "failed", "skipped", "expected failure"]


class CheckFailed(AssertionError):
    """A check failed; the message says what is wrong and how to mend it."""


def fail(what: str, mend: str) -> NoReturn:
    """Fail the running check."""
    raise CheckFailed(f"{what}. To mend: {mend}.")


def require(truth: Any, what: str, mend: str) -> None:
    """Fail the running check unless ``truth`` holds."""
    if not truth:
        fail(what, mend)


@dataclass(frozen=True)
class Outcome:
    """What one check came to; ``detail`` is the fault, or why it was skipped or expected to fail."""

    check: str
    result: Result
    detail: str = ""


@dataclass(frozen=True)
class Check:
    """``check()`` raises :class:`CheckFailed` where the subject breaks the contract, SkipTest (which pytest
    understands) where the check does not apply.

    doc: what holds where the check passes. expected: why it is known to fail; it must then fail.
    """

    name: str
    subject: Any
    test: Callable[[Any], None]
    doc: str
    expected: str = ""

    @property
    def __name__(self) -> str:  # what pytest shows as the parameter's id
        return self.name

    def __call__(self) -> None:
        try:
            self._run()
        except CheckFailed:
            if not self.expected:
                raise
        else:
            if self.expected:
                raise CheckFailed(
                    f"{self.name} passes, but is expected to fail ({self.expected}). "
                    "To mend: take it out of expected_failures."
                )

    def outcome(self) -> Outcome:
        """Run the check and tell, without raising."""
        try:
            self()
        except CheckFailed as error:
            return Outcome(self.name, "failed", str(error))
        except SkipTest as skip:
            return Outcome(self.name, "skipped", str(skip))
        if self.expected:
            return Outcome(self.name, "expected failure", self.expected)
        return Outcome(self.name, "passed")

    def _run(self) -> None:
        """The test itself; what it raises by accident becomes a failure that names the place."""
        try:
            self.test(self.subject)
        except (CheckFailed, SkipTest):
            raise
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            outside = [f for f in frames if "cvhpe/testing" not in Path(f.filename).as_posix()]
            own = [f for f in outside if not {"site-packages", "torch"} & set(Path(f.filename).parts)]
            at = (own or outside or frames)[-1]
            text = " ".join(str(error).split())[:300]
            raise CheckFailed(
                f"raised {type(error).__name__}: {text} ({Path(at.filename).name}:{at.lineno}). To mend: {self.doc}."
            ) from error


def make_checks(
    tests: Iterable[Callable[[Any], None]], subject: Any, expected_failures: Mapping[str, str] | None
) -> list[Check]:
    """Checks of ``subject``, named as their functions are; the first line of a docstring says what holds."""
    expected = dict(expected_failures or {})
    checks = [
        Check(
            t.__name__, subject, t, (t.__doc__ or t.__name__).splitlines()[0].rstrip("."), expected.pop(t.__name__, "")
        )
        for t in tests
    ]
    if expected:
        raise ValueError(
            f"expected_failures names no check: {', '.join(expected)}; have {', '.join(c.name for c in checks)}"
        )
    return checks


def raise_failures(name: str, checks: Sequence[Check]) -> None:
    """Run all checks, then raise one AssertionError that lists every failure."""
    bad = [o for o in (c.outcome() for c in checks) if o.result == "failed"]
    if bad:
        lines = "\n".join(f"  {o.check}: {o.detail}" for o in bad)
        raise CheckFailed(f"{name}: {len(bad)} of {len(checks)} checks failed\n{lines}")
