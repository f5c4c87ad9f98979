"""Units: one image, task, solver, setting, prior and seed, named by the hash of all that decides the outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invsolve.bench.data import Item
from invsolve.bench.suite import PriorSpec, Suite, canonical
from invsolve.core.identity import Unidentified, identify
from invsolve.core.prior import Prior

__all__ = ["Unit", "enumerate_units", "measurement_hash", "prior_digest", "unit_hash"]

PROTOCOL = 2
"""Changed when the same unit would be measured or solved otherwise."""


@dataclass(frozen=True)
class Unit:
    """One row to be computed.

    Attributes:
        hash: of `content`.
        measurement: hash of what decides y; equal for all solvers.
        item, task, solver, seed: where it stands in the tables.
        content: all that decides the outcome, as JSON.
    """

    hash: str
    measurement: str
    item: str
    task: str
    solver: str
    seed: int
    content: str

    def spec(self) -> dict[str, Any]:
        """The content as a dictionary."""
        return json.loads(self.content)


def prior_digest(prior: Prior, spec: PriorSpec | None = None) -> str:
    """The identity of a prior; of one that has none, a hash of how the suite names it.

    Args:
        prior: as it was loaded.
        spec: its name and options.

    Raises:
        InputError: it has no identity, and no spec is given.
    """
    try:
        return identify(prior, "the prior")
    except Unidentified:
        if spec is None:
            raise
        return _hash({"name": spec.name, "options": dict(spec.options)})


def unit_hash(content: str) -> str:
    """The name of a unit, from its content."""
    return _hash(content)


def measurement_hash(spec: Mapping[str, Any]) -> str:
    """The name of a measurement, from a unit's content."""
    return _hash({name: spec[name] for name in ("item", "task", "seed", "protocol")})


def enumerate_units(suite: Suite, items: Sequence[Item], prior: str) -> Iterator[Unit]:
    """The units of a suite: all solvers of one measurement follow each other.

    Args:
        suite: the suite.
        items: its images.
        prior: its `prior_digest`.
    """
    identity = {"name": suite.prior.name, "options": dict(suite.prior.options), "digest": prior}
    shared = {"prior": identity, "threads": suite.threads, "microbatch": suite.microbatch, "seconds": suite.seconds}
    for seed in suite.seeds:
        for item in items:
            for task in suite.tasks:
                drawn = {"item": item.digest, "task": task.content(), "seed": seed, "protocol": PROTOCOL}
                measurement = measurement_hash(drawn)
                for solver in suite.solvers:
                    if task.name not in solver.settings:
                        continue
                    content = canonical({**drawn, **shared, "solver": solver.content(task.name)})
                    yield Unit(unit_hash(content), measurement, item.name, task.name, solver.name, seed, content)


def _hash(content: Any) -> str:
    text = content if isinstance(content, str) else canonical(content)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
