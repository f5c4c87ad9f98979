"""Shared code of all peers: the problem, a denoiser that counts calls, and the runner."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from invsolve import FlowSchedule, Problem
from invsolve.core.checks import InputError
from invsolve.core.operator import LinearOperator
from invsolve.core.prior import Prior
from invsolve.priors import MixturePrior

__all__ = ["Peer", "PeerResult", "Sampler", "Task", "Unable", "denoiser_at", "run_peer"]

Network = TypeVar("Network")


class Unable(Exception):
    """The peer cannot solve this problem; the message says why."""


@dataclass(frozen=True)
class PeerResult:
    """Samples [B, S, *shape] in [0, 1] units, network calls per sample, seconds of processor time.

    `seconds` does not include loading the peer's own network; `loading` is the time that this took.
    """

    samples: Tensor
    forwards: float
    backwards: float
    seconds: float
    loading: float


class _Calls:
    """The number of rows that passed through the denoiser, forward and backward, and the time of loading networks."""

    def __init__(self) -> None:
        self.forward_rows = self.backward_rows = 0
        self.loading = self.loading_processor = 0.0


class _Count(torch.autograd.Function):
    """The identity with a counted backward pass; also works under torch.func."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor, calls: _Calls) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.calls = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        ctx.calls.backward_rows += len(grads[0])
        return grads[0], None


def denoiser_at(prior: Prior) -> Callable[[Tensor, float], Tensor]:
    """Return E[x0 | x0 + sigma n = x] in the prior's units, as a function of (x, sigma), for any sigma at least 0.

    It is exact for analytic priors. Networks are evaluated at the time with this noise-to-signal ratio, or at t = 1 for
    more noise.
    """
    if isinstance(prior, MixturePrior):
        straight = copy.copy(prior)
        straight.schedule = FlowSchedule()
        return lambda x, sigma: straight.denoise(x / (1 + sigma), sigma / (1 + sigma))

    def at(x: Tensor, sigma: float) -> Tensor:
        t = prior.schedule.time_of(sigma)
        return prior.denoise(prior.schedule(t)[0] * x, t)

    return at


@dataclass(frozen=True, eq=False)
class Task:
    """A problem of B items repeated S times, and the denoiser that counts calls."""

    problem: Problem
    samples: int
    steps: int
    calls: _Calls

    @property
    def rows(self) -> int:
        return self.problem.items * self.samples

    @property
    def operator(self) -> LinearOperator:
        return self.problem.linear_data.operator

    @property
    def sigma(self) -> float:
        """The noise level in [0, 1] units."""
        sigma = self.problem.linear_data.sigma
        if isinstance(sigma, Tensor):
            raise Unable("noise levels that differ from item to item")
        return float(sigma) / self.problem.width

    @property
    def measured(self) -> Tensor:
        """The measurement of the image in [0, 1], one row for each sample, in single precision."""
        low, width = self.problem.prior.value_range[0], self.problem.width
        data = self.problem.linear_data
        ones = torch.ones((1, *data.operator.in_shape), dtype=data.y.dtype)
        return self.repeated((data.y - low * data.operator(ones)) / width).float().clone()

    def count(self, rows: int) -> None:
        """Count rows that passed through the peer's own network."""
        self.calls.forward_rows += rows

    def loaded(self, load: Callable[[], Network]) -> Network:
        """Load the peer's own network; the time does not count, because it is cached for the next units."""
        began, processor = time.perf_counter(), time.process_time()
        try:
            return load()
        finally:
            self.calls.loading += time.perf_counter() - began
            self.calls.loading_processor += time.process_time() - processor

    def repeated(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.samples, 0)

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """Denoise in the units and the precision of the prior, and count the call."""
        self.calls.forward_rows += len(x)
        counted = _Count.apply(x.to(self.problem.prior.dtype), self.calls)
        assert isinstance(counted, Tensor)
        return denoiser_at(self.problem.prior)(counted, sigma)


Sampler = Callable[[Task], Tensor]


@dataclass(frozen=True)
class Peer:
    """One setting of one library's solver, a classical method, or a trained network.

    Attributes:
        name: library and method.
        settings: description of the settings that differ from its defaults.
        sample: the adapter.
        steps: number of steps.
    """

    name: str
    settings: str
    sample: Sampler
    steps: int


def run_peer(peer: Peer, problem: Problem, samples: int, seed: int = 0) -> PeerResult:
    """Run a peer on a problem with a linear operator and Gaussian noise.

    Raises:
        Unable: if the peer cannot solve the problem; with its own error message if it failed.
        InputError: if its package is not installed, or a sampler is given a prior on another device than the CPU.
    """
    if peer.steps and problem.prior.device.type != "cpu":  # restorers never use the prior
        raise InputError(
            f"{peer.name} runs on the CPU, and the prior is on {problem.prior.device}: leave out this row, or run the "
            "suite with [prior] options = { device = 'cpu' }"
        )
    task = Task(problem, samples, peer.steps, _Calls())
    began = time.process_time()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            out = peer.sample(task)
        except ModuleNotFoundError as error:
            raise InputError(f"{peer.name} needs {error.name}: pip install 'invsolve[bench]', then --retry") from error
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, NotImplementedError) as error:
            raise Unable(f"{type(error).__name__}: {' '.join(str(error).split())[:160]}") from error
    seconds = time.process_time() - began - task.calls.loading_processor
    shape = (problem.items, samples, *problem.state_shape)
    rows = task.rows
    return PeerResult(
        out.detach().double().reshape(shape),
        task.calls.forward_rows / rows,
        task.calls.backward_rows / rows,
        seconds,
        task.calls.loading,
    )
