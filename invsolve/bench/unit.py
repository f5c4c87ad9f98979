"""Units: one image, task, solver, setting, prior and seed, named by the hash of all that determines the outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invsolve.bench.data import Item
from invsolve.bench.suite import PriorSpec, SolverSpec, Suite, canonical
from invsolve.bench.tasks import OPERATOR
from invsolve.core.identity import Unidentified, identify
from invsolve.core.prior import Prior
from invsolve.core.registry import Registry
from invsolve.operators import OPERATORS
from invsolve.solvers import SOLVERS

__all__ = ["CODE", "Unit", "enumerate_units", "measurement_hash", "prior_digest", "set_mark", "unit_hash"]

CODE = "code"
"""Key in the content of a task or a solver for the identity of a user's code or file."""

PROTOCOL = 2
"""Version number, increased when the same unit would be measured or solved in another way."""


@dataclass(frozen=True)
class Unit:
    """One result to compute.

    Attributes:
        hash: hash of `content`.
        measurement: hash of everything that determines y; equal for all solvers.
        item, task, solver, seed: its place in the tables.
        content: everything that determines the outcome, as JSON.
    """

    hash: str
    measurement: str
    item: str
    task: str
    solver: str
    seed: int
    content: str

    def spec(self) -> dict[str, Any]:
        """Return the content as a dictionary."""
        return json.loads(self.content)


def prior_digest(prior: Prior, spec: PriorSpec | None = None) -> str:
    """Return the identity of a prior; if it has none, a hash of its name and options in the suite.

    Args:
        prior: the loaded prior.
        spec: its name and options.

    Raises:
        InputError: if it has no identity, and no spec is given.
    """
    try:
        return identify(prior, "the prior")
    except Unidentified:
        if spec is None:
            raise
        return _hash({"name": spec.name, "options": dict(spec.options)})


def unit_hash(content: str) -> str:
    """Return the name of a unit, from its content."""
    return _hash(content)


def measurement_hash(spec: Mapping[str, Any]) -> str:
    """Return the name of a measurement, from the content of a unit."""
    return _hash({name: spec[name] for name in ("item", "task", "seed", "protocol")})


def enumerate_units(suite: Suite, items: Sequence[Item], prior: str) -> Iterator[Unit]:
    """Yield the units of a suite; the solvers of one measurement follow each other.

    Args:
        suite: the suite.
        items: its images.
        prior: the `prior_digest` of its prior.
    """
    identity = {"name": suite.prior.name, "options": dict(suite.prior.options), "digest": prior}
    shared = {"prior": identity, "threads": suite.threads, "microbatch": suite.microbatch, "seconds": suite.seconds}
    for seed in suite.seeds:
        for item in items:
            for task in suite.tasks:
                code = code_of(OPERATORS, task.options["operator"]) if task.kind == OPERATOR else {}
                drawn = {"item": item.digest, "task": task.content() | code, "seed": seed, "protocol": PROTOCOL}
                measurement = measurement_hash(drawn)
                for solver in suite.solvers:
                    if task.name not in solver.settings:
                        continue
                    how = solver.content(task.name) | _own(solver)
                    content = canonical({**drawn, **shared, "solver": how})
                    yield Unit(unit_hash(content), measurement, item.name, task.name, solver.name, seed, content)


def set_mark(hashes: Sequence[str]) -> str:
    """Identify the set of units of a score: the units in their order."""
    return f"{hashes[0]} {len(hashes)} {hashlib.sha256(' '.join(hashes).encode()).hexdigest()[:16]}"


def _own(solver: SolverSpec) -> dict[str, str]:
    """Return what determines a row besides its settings: a user's code, or the weights of a peer's checkpoint."""
    if solver.method == "peer":
        from invsolve.bench.peers import weights_of_peer

        digest = weights_of_peer(solver.solver)
        return {} if digest is None else {CODE: digest}
    return {} if solver.method == "baseline" else code_of(SOLVERS, solver.solver)


def code_of(registry: Registry, name: Any) -> dict[str, str]:
    """Return the identity of code named as "module:attribute", for the content of a unit; empty for other names."""
    if not isinstance(name, str) or ":" not in name:
        return {}
    try:
        return {CODE: identify(registry[name], name)}
    except Unidentified:  # changes of this code are not detected
        return {}


def _hash(content: Any) -> str:
    text = content if isinstance(content, str) else canonical(content)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
