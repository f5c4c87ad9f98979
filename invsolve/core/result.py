"""The result of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from invsolve.core.operator import Params

__all__ = ["Result", "Stats"]


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
