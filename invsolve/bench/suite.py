"""A suite: its images, degradations, solvers and metrics."""

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
    """The source of the images.

    Attributes:
        kind: "packaged" (the test images in the package), "folder", "list" (a file with one path per line) or "draws"
            (samples of the prior itself, which needs an exact sampler).
        path: path of the folder or list.
        items: number of images, in the order of their paths or of the list; all of them if 0.
        size: side of the square images; their own size if 0.
        fit: "crop" takes the centre, "resize" first resizes the shorter side to `size`, "stretch" resizes both sides.
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
        name: name of the task in the tables.
        kind: one of `invsolve.bench.tasks.kinds()`.
        noise: standard deviation of the noise in [0, 1] units.
        options: options of the kind.
    """

    name: str
    kind: str
    noise: float
    options: Mapping[str, Any] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Return everything that determines the measurement, without the name."""
        return {"kind": self.kind, "noise": self.noise, "options": dict(self.options)}


@dataclass(frozen=True)
class SolverSpec:
    """A row: a solver, a peer or the baseline, with its settings for each task.

    Attributes:
        name: name of the row.
        method: "solver", "peer" or "baseline".
        solver: name in the registry, or name of the peer.
        settings: {task: all settings}, resolved; empty settings for peers and baselines.
        preset: description of the source of the settings.
        samples: posterior samples per item.
    """

    name: str
    method: Method
    solver: str
    settings: Mapping[str, Mapping[str, Any]]
    preset: str
    samples: int

    def content(self, task: str) -> dict[str, Any]:
        """Return everything that determines the restoration."""
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
        name, title: name of the suite, and title of its page.
        data, prior, tasks, solvers: what is run.
        seeds: each seed makes its own measurements.
        threads: threads of each unit, independent of the load.
        microbatch: samples that run together; all if 0.
        seconds: time after which a unit is stopped and counted as failed; no limit if 0.
        metrics: names of the metrics.
        published: section of the published rows to show beside the measured ones, or "".
        note: information for the reader.
        source: the TOML text, with the changes of the command line.
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
        """Return the task of this name.

        Raises:
            InputError: if there is none.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise InputError(f"the suite {self.name} has no task {name!r}")


def canonical(value: Any) -> str:
    """Format a value as JSON with sorted keys, so that equal contents give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=list)
