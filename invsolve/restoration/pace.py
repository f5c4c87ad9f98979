"""Speed of a restoration: the precision of the network, and the quality that a time limit allows."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.driver import solve
from invsolve.core.prior import Prior
from invsolve.core.problem import Problem
from invsolve.core.schedule import Schedule
from invsolve.core.solver import Solver
from invsolve.priors.networks.execution import gains_by_bfloat16

__all__ = [
    "call_seconds",
    "network_calls",
    "precision_of",
    "quality_within",
    "timed_shape",
]

SIDE, MARGIN = 128, 1.2
"""Side of the image used to time a call, and the factor that allows for all work outside the network."""

OF_PHOTOGRAPHS = ("natural", "natural-deep")
"""Packaged priors that lose no quality in bfloat16, see `python -m benchmarks.speed bf16-quality`."""

PRECISIONS = ("auto", "float32", "bfloat16")


def precision_of(name: str, prior: str, device: torch.device) -> torch.dtype | None:
    """Return the precision of a network's matrix products; None for the network's own precision.

    "auto" selects bfloat16 for the packaged priors of photographs, where it is faster.

    Raises:
        InputError: unknown precision.
    """
    if name not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}; got {name!r}")
    auto = name == "auto" and prior in OF_PHOTOGRAPHS and gains_by_bfloat16(device)
    return torch.bfloat16 if name == "bfloat16" or auto else None


class _Free(Prior):
    """A prior with negligible cost."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        return 0.5 * x_t


def network_calls(solver: Solver, schedule: Schedule) -> tuple[float, float]:
    """Count the network calls for one sample, (forwards, input gradients), on a small image with a trivial prior."""
    from invsolve.costs import GaussianLikelihood
    from invsolve.operators import Denoising

    operator = Denoising((3, 16, 16))
    cost = GaussianLikelihood(operator, torch.full((1, 3, 16, 16), 0.5), 0.1)
    stats = solve(Problem(_Free(schedule), cost), solver).stats
    return stats.network_forwards, stats.network_backwards


def seconds_of(solver: Solver, prior: Prior, pixels: float) -> float:
    """Estimate the seconds for one sample: calls are timed on a small image and scaled by the number of pixels."""
    forwards, backwards = network_calls(solver, prior.schedule)
    plain, guided = call_seconds(prior, gradient=backwards > 0)
    _, height, width = timed_shape(prior)
    return MARGIN * pixels / (height * width) * ((forwards - backwards) * plain + backwards * guided)


def timed_shape(prior: Prior) -> tuple[int, ...]:
    """The shape of the state used to time calls: the prior's own shape, or that of a small image."""
    return prior.shape or (prior.image_channels or 3, SIDE, SIDE)


def call_seconds(prior: Prior, *, gradient: bool = True) -> tuple[float, float]:
    """Seconds of a network call without and with its input gradient (0 if no gradient is requested)."""
    x = torch.zeros(1, *timed_shape(prior), dtype=prior.dtype, device=prior.device)
    return _timed(prior, x, gradient=False), _timed(prior, x, gradient=True) if gradient else 0.0


def _timed(prior: Prior, x: Tensor, *, gradient: bool) -> float:
    """Seconds of one call: the shorter of two calls, after one warm-up call."""
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        with torch.set_grad_enabled(gradient):
            leaf = x.clone().requires_grad_(gradient)
            out = prior.denoise(leaf, 0.3)
            if gradient:
                torch.autograd.grad(out.sum(), leaf)
        if x.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def quality_within(limit: float, choices: dict[str, Solver], prior: Prior, pixels: float) -> tuple[str, float]:
    """Return the last choice (fast to slow) that takes at most `limit` seconds, else the first; and its seconds."""
    picked = None
    for name, solver in choices.items():
        seconds = seconds_of(solver, prior, pixels)
        if picked is None or seconds <= limit:
            picked = name, seconds
    assert picked is not None
    return picked
