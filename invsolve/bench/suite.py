"""A suite: which images are degraded how, by whom they are restored, and how that is judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from invsolve.core.checks import InputError

__all__ = ["DataSpec", "PriorSpec", "SolverSpec", "Suite", "TaskSpec", "canonical"]

Method = Literal["solver", "peer", "baseline"]


@dataclass(frozen=True)
class DataSpec:
    """Where the images come from.

    Attributes:
        kind: "packaged" (the test images in the package), "folder", "list" (a file with a path a line) or "draws" (of
            the prior itself, where it has an exact sampler).
        path: of the folder or list.
        items: how many, in the order of their names; all of them if 0.
        size: side of the square images; their own size if 0.
        fit: "crop" takes the middle, "resize" makes the shorter side `size` first, "stretch" makes both sides `size`.
    """

    kind: str
    path: str = ""
    items: int = 0
    size: int = 0
    fit: str = "crop"


@dataclass(frozen=True)
class PriorSpec:
    """A prior by name or "module:function", and the options of `invsolve.priors.load`."""

    name: str = "natural"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskSpec:
    """A degradation.

    Attributes:
        name: of the row's section.
        kind: one of `invsolve.bench.tasks.kinds()`.
        noise: standard deviation in [0, 1] units.
        options: of the kind.
    """

    name: str
    kind: str
    noise: float
    options: Mapping[str, Any] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """All that decides the measurement, without the name."""
        return {"kind": self.kind, "noise": self.noise, "options": dict(self.options)}


@dataclass(frozen=True)
class SolverSpec:
    """A row: a solver (or a peer's, or the baseline) with the settings of each task.

    Attributes:
        name: of the row.
        method: whose it is.
        solver: registry name, or the peer's.
        settings: {task: all settings}, resolved; empty for peers and baselines.
        preset: where the settings come from, in words.
        samples: posterior samples an item.
    """

    name: str
    method: Method
    solver: str
    settings: Mapping[str, Mapping[str, Any]]
    preset: str
    samples: int

    def content(self, task: str) -> dict[str, Any]:
        """All that decides the restoration."""
        return {
            "method": self.method,
            "solver": self.solver,
            "settings": dict(self.settings[task]),
            "samples": self.samples,
        }


@dataclass(frozen=True)
class Suite:
    """A validated suite.

    Attributes:
        name, title: of the page.
        data, prior, tasks, solvers: what is run.
        seeds: each makes a measurement of its own.
        threads: of a unit, whatever runs beside it.
        microbatch: samples that run together; all if 0.
        seconds: after which a unit is stopped and counted as failed; no limit if 0.
        metrics: names.
        published: section of the published rows that stand beside the measured ones, or "".
        note: what a reader has to know.
        source: the TOML text, with what was changed on the command line.
    """

    name: str
    title: str
    data: DataSpec
    prior: PriorSpec
    tasks: tuple[TaskSpec, ...]
    solvers: tuple[SolverSpec, ...]
    seeds: tuple[int, ...]
    threads: int
    microbatch: int
    seconds: float
    metrics: tuple[str, ...]
    published: str
    note: str
    source: str

    def task(self, name: str) -> TaskSpec:
        """The task of this name.

        Raises:
            InputError: there is none.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise InputError(f"the suite {self.name} has no task {name!r}")


def canonical(value: Any) -> str:
    """One text for equal contents: JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=list)
