"""Two discrete distributions under the forward process: divergence, Fisher information, and their inequalities.

With p and q on the same points, and p_t and q_t the distributions of x_t = alpha_t x0 + sigma_t n:

    KL(t) = KL(p_t | q_t) <= alpha^2 D^2 / (2 sigma^2)               D the diameter of the points
    I(t)  = E_p |grad log p_t - grad log q_t|^2 <= (alpha D / sigma^2)^2
    dKL / dt = -g^2 I / 2,    g^2 = d sigma^2 / dt - 2 sigma^2 d log(alpha) / dt

and the parabolic Harnack inequality (Li and Yau 1986, Acta Math. 156) for each of them, see `harnack_margin`. Gao et
al. 2026, arXiv 2603.08155, use bounds of this kind for classifier-free guidance. Two of their statements do not hold as
printed. The variance-exploding inequality needs the time sigma^2 / 2 of the heat equation, and at sigma^2 it can be
violated by any amount. The variance-preserving one lacks the change of scale x / alpha, without which a point mass
violates it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.schedule import Schedule

__all__ = [
    "LawGap",
    "diffusion_rate",
    "fisher_bound",
    "fisher_identity",
    "harnack_margin",
    "kl_bound",
    "law_gap",
    "log_density",
]


class LawGap(NamedTuple):
    """KL(p_t | q_t) in nats and the relative Fisher information I(p_t | q_t)."""

    kl: float
    fisher: float


def diffusion_rate(schedule: Schedule, t: float, step: float) -> float:
    """g^2 at t, by central differences."""
    (a0, s0), (_, sigma), (a1, s1) = schedule(t - step), schedule(t), schedule(t + step)
    return (s1**2 - s0**2) / (2 * step) - 2 * sigma**2 * math.log(a1 / a0) / (2 * step)


def kl_bound(schedule: Schedule, t: float, diameter: float) -> float:
    """alpha^2 D^2 / (2 sigma^2): no two distributions within diameter D have a larger KL(p_t | q_t)."""
    alpha, sigma = schedule(t)
    return 0.5 * (alpha * diameter / sigma) ** 2


def fisher_bound(schedule: Schedule, t: float, diameter: float) -> float:
    """(alpha D / sigma^2)^2, a bound of I(p_t | q_t): the square of `discrepancy_bound`."""
    alpha, sigma = schedule(t)
    return (alpha * diameter / sigma**2) ** 2


def log_density(x: Tensor, points: Tensor, log_weights: Tensor, alpha: float, sigma: float) -> Tensor:
    """log sum_j w_j N(x; alpha a_j, sigma^2 I), [N]; x [N, d], points [J, d], log weights [J] (normalised)."""
    d = points.shape[1]
    exponent = log_weights - torch.cdist(x, alpha * points).square() / (2 * sigma**2)
    return exponent.logsumexp(1) - 0.5 * d * math.log(2 * math.pi * sigma**2)


def law_gap(points: Tensor, logp: Tensor, logq: Tensor, alpha: float, sigma: float, nodes: int = 128) -> LawGap:
    """KL and Fisher information at one time, by Gauss-Hermite quadrature around each point.

    Args:
        points: [J, d], d of 1 or 2, float64.
        logp, logq: log weights [J], normalised here.
        alpha, sigma: the coefficients at that time, sigma above 0.
        nodes: number of quadrature nodes in each dimension.

    Raises:
        InputError: there are more dimensions, or sigma is not above 0.
    """
    if points.shape[1] > 2 or sigma <= 0:
        raise InputError(f"laws are compared in 1 or 2 dimensions and at sigma above 0, got {points.shape[1]}, {sigma}")
    from numpy.polynomial.hermite_e import hermegauss

    z, w = (torch.from_numpy(part) for part in hermegauss(nodes))
    w = w / w.sum()
    if points.shape[1] == 1:
        z, w = z[:, None], w
    else:
        z, w = torch.cartesian_prod(z, z), (w[:, None] * w).flatten()
    logp, logq = logp.log_softmax(0), logq.log_softmax(0)
    x = (alpha * points[:, None] + sigma * z).flatten(0, 1)
    weight = (logp.exp()[:, None] * w).flatten()
    gap = log_density(x, points, logp, alpha, sigma) - log_density(x, points, logq, alpha, sigma)
    exponent = -torch.cdist(x, alpha * points).square() / (2 * sigma**2)
    shift = ((logp + exponent).softmax(1) - (logq + exponent).softmax(1)) @ points
    fisher = (alpha / sigma**2) ** 2 * (weight @ shift.square().sum(1))
    return LawGap(float(weight @ gap), float(fisher))


def fisher_identity(
    points: Tensor, logp: Tensor, logq: Tensor, schedule: Schedule, t: float, step: float = 1e-4, nodes: int = 128
) -> tuple[float, float]:
    """(dKL / dt, -g^2 I / 2) at t, the first by a central difference; they are equal by the identity above."""
    before, after = (law_gap(points, logp, logq, *schedule(s), nodes=nodes).kl for s in (t - step, t + step))
    fisher = law_gap(points, logp, logq, *schedule(t), nodes).fisher
    return (after - before) / (2 * step), -0.5 * diffusion_rate(schedule, t, step) * fisher


def harnack_margin(
    points: Tensor, log_weights: Tensor, schedule: Schedule, x1: Tensor, t1: float, x2: Tensor, t2: float
) -> Tensor:
    """The log of the right over the left side of Harnack's inequality for t1 < t2, [N]; it is never below 0.

    In the coordinates y = x / alpha and s = sigma^2 / (2 alpha^2), in which every schedule is the heat equation
    du/ds = Laplacian u with p_t(x) = alpha^-d u(x / alpha, s):

        u(y1, s1) <= u(y2, s2) (s2 / s1)^(d/2) exp(|y1 - y2|^2 / (4 (s2 - s1)))

    Raises:
        InputError: the times do not increase, or there is no noise at the first.
    """
    (a1, g1), (a2, g2) = schedule(t1), schedule(t2)
    s1, s2 = 0.5 * (g1 / a1) ** 2, 0.5 * (g2 / a2) ** 2
    if not 0 < s1 < s2:
        raise InputError(f"Harnack's inequality compares times 0 < t1 < t2, got {t1} and {t2}")
    y1, y2, logw = x1 / a1, x2 / a2, log_weights.log_softmax(0)
    left, right = (log_density(y, points, logw, 1.0, math.sqrt(2 * s)) for y, s in ((y1, s1), (y2, s2)))
    growth = 0.5 * points.shape[1] * math.log(s2 / s1) + (y1 - y2).square().sum(1) / (4 * (s2 - s1))
    return right + growth - left
