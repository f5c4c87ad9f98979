"""The result of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.core.checkpoint import peak_memory
from invsolve.core.operator import Params
from invsolve.core.problem import Problem
from invsolve.core.solver import Solver

__all__ = ["Result", "Stats", "collected"]

FAR = 1e3
"""A sample has diverged if its values exceed white by this factor."""


@dataclass(frozen=True)
class Stats:
    """The cost of a run.

    Attributes:
        network_forwards: network evaluations for each sample.
        network_backwards: gradients through the network to its input, for each sample.
        seconds: wall-clock time, including the time before a resume.
        peak_memory: bytes; on a GPU the most memory allocated, on a CPU the most memory that the process has ever held.
    """

    network_forwards: float
    network_backwards: float
    seconds: float
    peak_memory: int


@dataclass(frozen=True)
class Result:
    """Posterior samples, and information about the run.

    Attributes:
        samples: [B, S, *image shape] in [0, 1] units, not clipped.
        status: a sentence for each sample, [B][S]: "ok", or when and why it ended early, or "failed: ..." if values
            are NaN or reached a thousand times white.
        energy: the terminal cost of each sample in nats, [B, S]; NaN without a cost.
        theta: constrained operator parameters, [B, S, ...] each; empty unless the problem was blind.
        stats: network calls, seconds, memory.
        seed: the seed of the run.
        config: the settings needed to repeat the run, as plain text; with a checkpoint also its "identity", the hash of
            everything that determines the result.
    """

    samples: Tensor
    status: tuple[tuple[str, ...], ...]
    energy: Tensor
    theta: Params
    stats: Stats
    seed: int | None
    config: Mapping[str, str]

    @property
    def mean(self) -> Tensor:
        """The mean of each image's samples, [B, *image shape]."""
        return self.samples.mean(1)

    @property
    def std(self) -> Tensor:
        """The standard deviation of each image's samples (divided by S - 1; NaN for one sample), [B, *image shape]."""
        return self.samples.std(1)

    @property
    def ok(self) -> bool:
        """Whether every sample's status is "ok"."""
        return all(sentence == "ok" for row in self.status for sentence in row)


def collected(
    problem: Problem,
    solver: Solver,
    outputs: list[dict[str, Tensor]],
    shape: tuple[int, int],
    seed: int | None,
    mark: str,
) -> Result:
    """Combine the chunks into [B, S, ...]."""

    def joined(name: str) -> Tensor:
        value = torch.cat([output[name] for output in outputs])
        return value.reshape(*shape, *value.shape[1:])

    ends = zip(joined("failed").tolist(), joined("reach").tolist(), strict=True)
    calls = torch.stack([output["calls"] for output in outputs]).sum(0).double() / (shape[0] * shape[1])
    config = {
        "solver": repr(solver),
        "prior": repr(problem.prior),
        "cost": type(problem.cost).__name__,
        "schedule": repr(problem.prior.schedule),
        **({"identity": mark} if mark else {}),
    }
    return Result(
        samples=joined("samples"),
        status=tuple(tuple(map(_sentence, *row)) for row in ends),
        energy=joined("energy"),
        theta={key.removeprefix("theta."): joined(key) for key in outputs[0] if key.startswith("theta.")},
        stats=Stats(
            network_forwards=calls[0].item(),
            network_backwards=calls[1].item(),
            seconds=float(sum(output["seconds"].item() for output in outputs)),
            peak_memory=peak_memory(problem.prior.device),
        ),
        seed=seed,
        config=config,
    )


def _sentence(failed: int, reach: float) -> str:
    if failed >= 0:
        return f"ended at step {failed}: values became non-finite; the last finite estimate is kept"
    if math.isnan(reach):
        return "failed: the image has NaN values: use smaller steps or weights"
    if reach > FAR:
        return f"failed: values reached {reach:.3g}, but images are in [0, 1]: use smaller steps or weights"
    return "ok"
