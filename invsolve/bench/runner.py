"""Run a suite: compute missing units once each; finished results are never lost."""

from __future__ import annotations

import fnmatch
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from invsolve.bench.data import Item, find_items
from invsolve.bench.execute import Job, execute, failure, load_spec_prior
from invsolve.bench.outcomes import StoreFull, record_of
from invsolve.bench.store import Store
from invsolve.bench.suite import Suite
from invsolve.bench.tasks import measure
from invsolve.bench.unit import Unit, enumerate_units, prior_digest
from invsolve.core.checks import InputError, InvsolveError, nearest
from invsolve.core.context import threads
from invsolve.core.prior import Prior
from invsolve.execution.executor import Executor, Here, outcomes

__all__ = ["Progress", "matches", "run"]


@dataclass(frozen=True)
class Progress:
    """Progress after each unit: units done, total units of this run, the last unit and its status."""

    done: int
    total: int
    unit: Unit
    status: str


def run(
    suite: Suite,
    store: Store,
    executor: Executor | None = None,
    *,
    only: Sequence[str] = (),
    retry: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> int:
    """Compute the units of a suite that have no outcome yet.

    Args:
        suite: the suite.
        store: a store opened for writing.
        executor: runs the units; this process if not given. It is closed at the end.
        only: patterns of the chosen units, see `matches`; all units if empty.
        retry: run failed units among the chosen ones again.
        report: called after each unit.

    Returns:
        The number of computed units.

    Raises:
        InputError: if data, prior or patterns do not allow a run; raised before anything is computed.
        StoreFull: if the disk is full; finished results are kept.
    """
    prior = _prior(suite)
    items = find_items(suite.data, prior)
    units = list(enumerate_units(suite, items, prior_digest(prior, suite.prior)))
    chosen = [unit for unit in units if matches(unit, only)]
    if not chosen:
        raise InputError(f"no unit of the suite {suite.name} matches --only {' '.join(only)}{_meant(units, only)}")
    store.define(suite.name, suite.source, units, {"description": describe(suite, items, prior)})
    if retry:
        store.retry([unit.hash for unit in chosen])
    executor = executor or Here(execute)
    try:
        loop = _Loop(suite, store, executor, {item.name: item for item in items}, prior, report)
        loop.draw_again(chosen)
        done = {row["hash"] for row in store.units() if row["status"] is not None}
        missing: dict[str, Unit] = {}  # units of equal content run once
        for unit in chosen:
            if unit.hash not in done:
                missing.setdefault(unit.hash, unit)
        return loop.run(list(missing.values()))
    finally:
        executor.close()


def matches(unit: Unit, patterns: Sequence[str]) -> bool:
    """Whether a unit matches the patterns of every given kind.

    Patterns are "task=super*", "solver=ndtm", "item=chelsea", "seed=0" or "unit=HASH..."; several patterns of one kind
    are alternatives.

    Raises:
        InputError: for any other kind of pattern.
    """
    wanted: dict[str, list[str]] = {}
    for pattern in patterns:
        key, equals, value = pattern.partition("=")
        if not equals or key not in ("task", "solver", "item", "seed", "unit"):
            raise InputError(f"--only takes task=, solver=, item=, seed= or unit= and a pattern, got {pattern!r}")
        wanted.setdefault(key, []).append(value)
    fields = {"task": unit.task, "solver": unit.solver, "item": unit.item, "seed": str(unit.seed), "unit": unit.hash}
    return all(any(fnmatch.fnmatchcase(fields[k], v) for v in values) for k, values in wanted.items())


def _meant(units: Sequence[Unit], patterns: Sequence[str]) -> str:
    """Suggest the nearest name for the first pattern that matches no unit."""
    for pattern in patterns:
        if not any(matches(unit, [pattern]) for unit in units):
            key, _, value = pattern.partition("=")
            return "" if key in ("unit", "item") else f"; {nearest(value, {str(getattr(u, key)) for u in units})}"
    return ": no unit matches all of them"


class _Loop:
    """The only writer of the store: submits units, and stores their outcomes."""

    def __init__(
        self,
        suite: Suite,
        store: Store,
        executor: Executor,
        items: dict[str, Item],
        prior: Prior,
        report: Callable[[Progress], None],
    ) -> None:
        self.suite, self.store, self.executor, self.items = suite, store, executor, items
        self.prior, self.report = prior, report
        self.measured: tuple[str, bytes] = ("", b"")
        self.done = self.total = 0

    def run(self, units: Sequence[Unit]) -> int:
        """Compute units, and return their number."""
        self.total = len(units)
        taken: list[Unit] = []
        for index, content, reason in outcomes(self.executor, self._jobs(units, taken)):
            unit = taken[index]
            self._finish(unit, failure(unit.hash, reason) if content is None else content)
        return self.done

    def _jobs(self, units: Sequence[Unit], taken: list[Unit]) -> Iterator[Job]:
        """Yield the job of each unit, and add the unit to `taken`; a unit that cannot be measured has failed."""
        for unit in units:
            try:
                job = Job(unit.hash, unit.content, self._measurement(unit))
            except StoreFull:
                raise
            except Exception as error:  # an unreadable image, or an error in a user's operator
                trace = "" if isinstance(error, InvsolveError) else traceback.format_exc()
                self._finish(unit, failure(unit.hash, f"{type(error).__name__}: {error}", trace))
                continue
            taken.append(unit)
            yield job

    def draw_again(self, units: Sequence[Unit]) -> None:
        """Draw again the missing measurements of existing outcomes."""
        kept = {row["hash"] for row in self.store.units() if row["status"] == "ok"}
        for unit in {unit.measurement: unit for unit in units if unit.hash in kept}.values():
            if not self.store.measurement_path(unit.measurement).is_file():
                self._measurement(unit)

    def _finish(self, unit: Unit, content: bytes) -> None:
        self.store.put(unit.hash, content)
        self.done += 1
        self.report(Progress(self.done, self.total, unit, record_of(content)["status"]))

    def _measurement(self, unit: Unit) -> bytes:
        """Return the file of the measurement, drawn if it is missing; the last one is cached."""
        if self.measured[0] != unit.measurement:
            content = self.store.measured(unit.measurement)
            if content is None:
                content = self._measure(unit)
                self.store.put_measurement(unit.measurement, content)
            self.measured = (unit.measurement, content)
        return self.measured[1]

    def _measure(self, unit: Unit) -> bytes:
        from safetensors.torch import save

        item = self.items[unit.item]
        image = item.load(self.prior)
        with threads(1):  # rounding depends on the number of threads, and a measurement may be drawn again
            made = measure(self.suite.task(unit.task), image, item.digest, unit.seed)
        return save(made.tensors())


def _prior(suite: Suite) -> Prior:
    """Load the prior of the suite; it must be available before anything runs."""
    try:
        return load_spec_prior(suite.prior.name, suite.prior.options)
    except (OSError, TypeError) as error:
        raise InputError(f"the prior {suite.prior.name!r} cannot be loaded: {error}") from error


def describe(suite: Suite, items: Sequence[Item], prior: Prior) -> dict[str, Any]:
    """Return the description of a suite for the page."""
    return {
        "title": suite.title,
        "note": suite.note,
        "published": suite.published,
        "metrics": list(suite.metrics),
        "prior": f"{suite.prior.name}: {prior!r}",
        "items": len(items),
        "seeds": list(suite.seeds),
        "tasks": [{"name": task.name, **task.content()} for task in suite.tasks],
        "solvers": [
            {"name": s.name, "method": s.method, "solver": s.solver, "preset": s.preset, "samples": s.samples}
            for s in suite.solvers
        ],
    }
