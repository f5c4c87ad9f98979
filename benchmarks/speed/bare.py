"""Hand-written loops of the same algorithms: precomputed coefficients, one function, no checks and no stored states.

Each loop does the same computation as the solver of that name with the same settings on an inpainting problem: the same
equations per sample, the same draws by `torch.randn`. They are the lower bound for a library's step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.core.schedule import DDPMSchedule, Step, path
from invsolve.solvers.steps.updates import ddim_coefficients, posterior_variance

__all__ = ["LOOPS", "Data"]

Network = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Data:
    """y = m * x + sigma n, in the prior's units; `mask` [C, H, W], `y` [N, C, H, W]."""

    mask: Tensor
    y: Tensor
    sigma: float


def _steps(n: int) -> tuple[Step, ...]:
    return path(DDPMSchedule(), n)


@torch.no_grad()
def dps(network: Network, data: Data, n: int) -> Tensor:
    """Ancestral DPS, zeta 1, clamped estimate, one norm per sample."""
    plan = []
    for step in _steps(n):
        ratio = step.alpha_t / step.alpha_s
        forward = step.sigma_t**2 - ratio**2 * step.sigma_s**2
        of_x0, of_x = step.alpha_s * forward / step.sigma_t**2, ratio * step.sigma_s**2 / step.sigma_t**2
        plan.append((step.t, of_x0, of_x, math.sqrt(posterior_variance(step))))
    x = torch.randn_like(data.y)
    for t, of_x0, of_x, std in plan:
        with torch.enable_grad():
            x.requires_grad_()
            x0 = network(x, t).clamp(-1, 1)
            norm = torch.linalg.vector_norm((data.y - data.mask * x0).flatten(1), dim=1).sum()
        (gradient,) = torch.autograd.grad(norm, x)
        x = of_x0 * x0.detach() + of_x * x.detach() - gradient
        if std > 0:
            x += std * torch.randn_like(x)
    return x


@torch.no_grad()
def pigdm(network: Network, data: Data, n: int) -> Tensor:
    """PiGDM in the noisy form with eta 1."""
    plan = [(step, *ddim_coefficients(step, 1.0)) for step in _steps(n)]
    x = torch.randn_like(data.y)
    for step, c1, c2 in plan:
        r2 = step.sigma_t**2 / (step.alpha_t**2 + step.sigma_t**2)
        with torch.enable_grad():
            x.requires_grad_()
            x0 = network(x, step.t)
        free = x0.detach()
        pull = (data.y - data.mask * free) * (data.mask / (r2 + data.sigma**2))
        (gradient,) = torch.autograd.grad(x0, x, pull)
        guided = free + (step.sigma_t**2 / step.alpha_t) * gradient
        eps = (x.detach() - step.alpha_t * guided) / step.sigma_t
        x = step.alpha_s * guided + c2 * eps
        if c1 > 0:
            x += c1 * torch.randn_like(x)
    return x


@torch.no_grad()
def ddrm(network: Network, data: Data, n: int) -> Tensor:
    """DDRM's two cases for a mask: measured strongly enough, and not measured; eta 0.85, eta_b 1."""
    eta, missing = 0.85, 1 - data.mask
    x = torch.randn_like(data.y)
    for step in _steps(n):
        x0 = network(x, step.t)
        eps = (x - step.alpha_t * x0) / step.sigma_t
        level = step.sigma_s / step.alpha_s
        if level**2 >= data.sigma**2:
            spread = math.sqrt(level**2 - data.sigma**2)
            c = data.mask * data.y + missing * (x0 + math.sqrt(1 - eta**2) * level * eps)
            c += (spread * data.mask + (eta * level) * missing) * torch.randn_like(x)
        else:
            rest = math.sqrt(1 - eta**2) * level
            c = x0 + rest * (missing * eps + data.mask * (data.y - x0) / data.sigma)
            if level > 0:
                c += eta * level * torch.randn_like(x)
        x = step.alpha_s * c
    return x


@torch.no_grad()
def diffpir(network: Network, data: Data, n: int) -> Tensor:
    """DiffPIR with lam 1, zeta 0.1."""
    x = torch.randn_like(data.y)
    for step in _steps(n):
        x0 = network(x, step.t)
        rho = data.sigma**2 * (step.alpha_t / step.sigma_t) ** 2
        p = x0 + (data.y - data.mask * x0) * (data.mask / (1 + rho))
        eps = (x - step.alpha_t * p) / step.sigma_t
        x = step.alpha_s * p
        if step.sigma_s > 0:
            x += step.sigma_s * (math.sqrt(0.9) * eps + math.sqrt(0.1) * torch.randn_like(x))
    return x


@torch.no_grad()
def red_diff(network: Network, data: Data, n: int) -> Tensor:
    """RED-diff with lam 0.25, lr 0.5, sigma_x0 1e-4 and torch's own Adam."""
    mu = (data.mask * data.y).requires_grad_()
    adam = torch.optim.Adam([mu], lr=0.5, betas=(0.9, 0.99))
    pixels = mu[0].numel()
    p = mu
    for step in _steps(n):
        p = mu.detach() + 1e-4 * torch.randn_like(mu)
        noise = torch.randn_like(p)
        x_t = step.alpha_t * p + step.sigma_t * noise
        eps = (x_t - step.alpha_t * network(x_t, step.t)) / step.sigma_t
        with torch.enable_grad():
            p.requires_grad_()
            misfit = (data.y - data.mask * p).square().sum()
        (pull,) = torch.autograd.grad(misfit, p)
        weight = 0.25 * step.sigma_t / step.alpha_t / pixels
        mu.grad = weight * (eps - noise) + (0.5 / pixels) * pull
        adam.step()
    return p.detach()


@torch.no_grad()
def ndtm(network: Network, data: Data, n: int) -> Tensor:
    """NDTM, `n` inner updates in all, 5 per step: weights "ddim", gamma 1, w_T 50, lr 0.01 falling, torch's Adam."""
    inner, eta = 5, 0.7
    steps = _steps(n // inner)
    x = steps[0].alpha_t * data.mask * data.y + steps[0].sigma_t * torch.randn_like(data.y)
    for k, step in enumerate(steps):
        c1, c2 = ddim_coefficients(step, eta)
        w_s = (c2 - step.alpha_s * step.sigma_t / step.alpha_t) ** 2
        w_c = (step.alpha_t / step.alpha_s) ** 2
        u, free = torch.zeros_like(x).requires_grad_(), None
        adam = torch.optim.Adam([u], lr=0.01 * (1 - k / len(steps)))
        for _ in range(inner):
            with torch.enable_grad():
                c = x + u
                x0 = network(c, step.t)
                eps = (c - step.alpha_t * x0) / step.sigma_t
                free = eps.detach() if free is None else free
                cost = 50.0 * (data.y - data.mask * x0.clamp(-1, 1)).square().sum()
                cost = cost + w_s * (free - eps).square().sum() + w_c * (c - x).square().sum()
            (u.grad,) = torch.autograd.grad(cost, u)
            adam.step()
        c = x + u.detach()
        x0 = network(c, step.t)
        eps = (c - step.alpha_t * x0) / step.sigma_t
        x = step.alpha_s * x0.clamp(-1, 1) + c2 * eps
        if c1 > 0:
            x += c1 * torch.randn_like(x)
    return x


LOOPS = {"dps": dps, "pigdm": pigdm, "ddrm": ddrm, "diffpir": diffpir, "red-diff": red_diff, "ndtm": ndtm}
