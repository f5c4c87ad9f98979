"""azula 0.11: its unmodified DPS and MMPS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from invsolve.bench.peers.task import Sampler, Task

__all__ = ["dps", "mmps"]


def _parts(task: Task) -> tuple[Any, Tensor, Callable[[Tensor], Tensor], float]:
    """Return the denoiser, y [N, m], A on vectors and sigma_y, in the prior's units."""
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import VPSchedule

    problem = task.problem
    data, shape = problem.linear_data, problem.state_shape

    class Analytic(Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = VPSchedule()

        def forward(self, x_t: Tensor, t: Tensor, **kwargs: Any) -> DiracPosterior:
            alpha, sigma = self.schedule(t)
            x = task.denoise((x_t / alpha).unflatten(-1, shape), float(sigma / alpha))
            return DiracPosterior(mean=x.flatten(1).to(x_t))

    def forward(x: Tensor) -> Tensor:
        return data.operator(x.unflatten(-1, shape)).flatten(1)

    return Analytic(), task.repeated(data.y).flatten(1), forward, task.sigma * problem.width


def dps(*, batched: bool) -> Sampler:
    """DPS of azula; `batched` keeps its norm over the whole batch, otherwise zeta = sqrt(rows) compensates for it."""

    def sample(task: Task) -> Tensor:
        from azula.guidance.dps import DPSSampler

        denoiser, y, forward, _ = _parts(task)
        zeta = 1.0 if batched else task.rows**0.5
        sampler = DPSSampler(denoiser, y, forward, zeta=zeta, steps=task.steps, silent=True, dtype=torch.float64)
        return _image(task, sampler(sampler.init((task.rows, task.problem.empty(1).numel()))))

    return sample


def mmps(**settings: Any) -> Sampler:
    """MMPS of azula with its DDPM sampler."""

    def sample(task: Task) -> Tensor:
        from azula.guidance.mmps import MMPSDenoiser
        from azula.linalg.covariance import IsotropicCovariance
        from azula.sample import DDPMSampler

        denoiser, y, forward, sigma = _parts(task)
        guided = MMPSDenoiser(denoiser, y, forward, IsotropicCovariance(sigma**2), **settings)
        sampler = DDPMSampler(guided, steps=task.steps, silent=True, dtype=torch.float64)
        return _image(task, sampler(sampler.init((task.rows, task.problem.empty(1).numel()))))

    return sample


def _image(task: Task, x: Tensor) -> Tensor:
    low, width = task.problem.prior.value_range[0], task.problem.width
    return (x.unflatten(-1, task.problem.state_shape) - low) / width
