"""One conformance check: a named callable whose failure says what is wrong and how to fix it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn
from unittest import SkipTest

CheckResult = Literal["passed", "failed", "skipped", "expected failure"]


class CheckFailed(AssertionError):
    """A check failed; the message says what is wrong and how to fix it."""


def fail_check(problem: str, fix: str) -> NoReturn:
    """Fail the running check.

    Args:
        problem: What is wrong.
        fix: How to fix it.

    Raises:
        CheckFailed: Always.
    """
    raise CheckFailed(f"{problem}. Fix: {fix}.")


def skip_check(reason: str) -> NoReturn:
    """Skip the running check.

    Args:
        reason: Why it does not apply.

    Raises:
        SkipTest: Always; pytest and unittest understand it.
    """
    raise SkipTest(reason)


def require(condition: Any, problem: str, fix: str) -> None:
    """Fail the running check unless a condition holds.

    Args:
        condition: The condition, anything with a truth value.
        problem: What is wrong if it does not hold.
        fix: How to fix it.
    """
    if not condition:
        fail_check(problem, fix)


@dataclass(frozen=True)
class Outcome:
    """Result of one check.

    Attributes:
        check: Name of the check.
        result: ``passed``, ``failed``, ``skipped`` or ``expected failure``.
        detail: The problem, or why the check was skipped or expected to fail.
        traceback: Of the exception that a failed check raised; "" if the check itself found the problem.
    """

    check: str
    result: CheckResult
    detail: str = ""
    traceback: str = ""


@dataclass(frozen=True)
class Check:
    """A check of one subject. Calling it raises CheckFailed, or SkipTest where it does not apply.

    Attributes:
        name: Name of the check.
        subject: What is checked; the argument of ``test``.
        test: The function that checks it.
        doc: What holds where the check passes.
        expected: Why the check is known to fail; it must then fail.
    """

    name: str
    subject: Any
    test: Callable[[Any], None]
    doc: str
    expected: str = ""

    @property
    def __name__(self) -> str:  # pytest's id of the parameter
        return self.name

    def __call__(self) -> None:
        try:
            self._run()
        except CheckFailed:
            if not self.expected:
                raise
        else:
            if self.expected:
                fail_check(
                    f"{self.name} passes, but is expected to fail ({self.expected})",
                    "take it out of expected_failures",
                )

    def outcome(self) -> Outcome:
        """Run the check and return its result, without raising."""
        try:
            self()
        except CheckFailed as error:
            cause = error.__cause__
            text = "".join(traceback.format_exception(cause)).rstrip() if cause else ""
            return Outcome(self.name, "failed", str(error), text)
        except SkipTest as skip:
            return Outcome(self.name, "skipped", str(skip))
        if self.expected:
            return Outcome(self.name, "expected failure", self.expected)
        return Outcome(self.name, "passed")

    def _run(self) -> None:
        """Run the test; any other exception becomes a failure that names the plugin's file and line."""
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
            where = f"{Path(at.filename).name}:{at.lineno}"
            raise CheckFailed(f"raised {type(error).__name__}: {text} ({where}). Fix: {self.doc}.") from error


def make_checks(
    tests: Iterable[Callable[[Any], None]], subject: Any, expected_failures: Mapping[str, str] | None
) -> list[Check]:
    """Make the checks of a subject.

    Args:
        tests: Test functions; a check has the function's name, its ``doc`` is the docstring's first line.
        subject: The argument of the test functions.
        expected_failures: check -> reason why it is known to fail.

    Returns:
        One check a function.

    Raises:
        ValueError: If ``expected_failures`` names a check that does not exist.
    """
    expected = dict(expected_failures or {})
    checks = []
    for test in tests:
        doc = (test.__doc__ or test.__name__).splitlines()[0].rstrip(".")
        checks.append(Check(test.__name__, subject, test, doc, expected.pop(test.__name__, "")))
    if expected:
        names = ", ".join(c.name for c in checks)
        raise ValueError(f"expected_failures names no check: {', '.join(expected)}; have {names}")
    return checks


def raise_failures(name: str, checks: Sequence[Check]) -> None:
    """Run all checks, then raise one error that lists every failure.

    Args:
        name: Name of the modality or data set, for the message.
        checks: The checks to run.

    Raises:
        CheckFailed: If a check fails.
    """
    failed = [o for o in (c.outcome() for c in checks) if o.result == "failed"]
    if failed:
        lines = "\n".join(f"  {o.check}: {o.detail}" for o in failed)
        raise CheckFailed(f"{name}: {len(failed)} of {len(checks)} checks failed\n{lines}")
