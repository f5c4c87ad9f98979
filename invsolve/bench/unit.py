"""Units: one image, task, solver, setting, prior and seed, named by the hash of all that decides the outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from invsolve.bench.data import Item
from invsolve.bench.suite import Suite, canonical
from invsolve.core.prior import Prior

__all__ = ["Unit", "enumerate_units", "prior_digest"]

PROTOCOL = 1
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


def prior_digest(prior: Prior) -> str:
    """A hash of what a prior is: its description, and the bits of its network's weights."""
    digest = hashlib.sha256(f"{prior!r} {prior.schedule!r} {prior.value_range}".encode())
    module = getattr(prior, "module", None)
    if isinstance(module, torch.nn.Module):
        for name, tensor in sorted(module.state_dict().items()):
            values = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(name.encode())
            digest.update(values.view(torch.uint8).numpy().tobytes() if values.numel() else b"")
    return digest.hexdigest()[:32]


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
                measurement = _hash(drawn)
                for solver in suite.solvers:
                    if task.name not in solver.settings:
                        continue
                    content = canonical({**drawn, **shared, "solver": solver.content(task.name)})
                    yield Unit(_hash(content), measurement, item.name, task.name, solver.name, seed, content)


def _hash(content: Any) -> str:
    text = content if isinstance(content, str) else canonical(content)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
