"""The results of a conformance check."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from invsolve.testing import diagnoses

__all__ = ["Check", "ConformanceError", "Report"]


class ConformanceError(AssertionError):
    """An object breaks the contract of its base class; the message lists the failed checks."""


@dataclass(frozen=True)
class Check:
    """One checked property: `value` is the measured error (None for a yes-or-no check), `limit` the largest allowed."""

    name: str
    passed: bool
    value: float | None = None
    limit: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        number = "" if self.value is None else f"  {self.value:.1e} (limit {self.limit:.0e})"
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.name}{number}{'  ' + self.detail if self.detail else ''}"


@dataclass
class Report:
    """The checks of one object, in order, and notes that do not count as failures; prints as a readable list."""

    subject: str
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if not check.passed]

    def error(self, name: str, value: float, limit: float, detail: str = "") -> None:
        """Record an error that must be at most `limit`; NaN fails. The detail is shown only for a failure."""
        holds = value <= limit
        self.checks.append(Check(name, holds, value, limit, "" if holds else detail))

    def fact(self, name: str, holds: bool, detail: str = "") -> bool:
        """Record whether a property holds, and return that. The detail is shown only for a failure."""
        self.checks.append(Check(name, holds, detail="" if holds else detail))
        return holds

    def attempt(self, name: str, check: Callable[[], bool | None]) -> bool:
        """Run a group of checks; an exception is a failure of `name`. Return False if the rest should not run."""
        try:
            return check() is not False
        except Exception as error:
            return self.fact(name, False, diagnoses.of_error(error))

    def without(self, skip: Collection[str]) -> Report:
        """Return the report without the checks of these names."""
        return Report(self.subject, [check for check in self.checks if check.name not in skip], self.notes)

    def raise_if_failed(self) -> None:
        """Raise `ConformanceError` with the list of failures, if there are any."""
        if not self.passed:
            raise ConformanceError(f"{self.subject} fails:\n" + "\n".join(map(str, self.failures)))

    def __str__(self) -> str:
        return "\n".join([self.subject, *map(str, self.checks), *(f"note  {note}" for note in self.notes)])
