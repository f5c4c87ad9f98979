"""Coefficients of the conjugate integrator: integrals of the variance-preserving equation over each step.

All values are computed relative to the end of the step. The factors exp(+-k) of the coordinates, which reach 1e30,
therefore never appear.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Interval", "intervals"]

NUM_EPS = 1e-6
"""Small number that the official code adds to denominators and logarithms."""


class Interval(NamedTuple):
    """One step from t down to s. E = exp(-k(s)), k = k1 on the null space of A and k1 + k2 (suffix _p) on its range:

    x = (1 - lam (t - s)) exp(k(t) - k(s)). The other fields are E times minus the integral over [s, t] of
        y     -w beta exp(k) mu / 2                            of A^+ y (range only)
        eps   beta exp(k) / (2 sd)                             minus w beta exp(k) sd / 2 on the range
        g     w beta exp(k) sd mu / 2
        *_q   k3 w beta (-mu, 1 / (w sd) - sd, sd mu) / 2      for Q A^+ y, Q eps, Q g, at sigma_y = 1
    k3_t and k3_s are E times k3 at the two ends (each with its own E), at sigma_y = 1. guidance is
    w beta(t) exp(k1(t) - k1(s)) (t - s) / 2, the explicit step of PiGDM's drift.
    """

    t: float
    s: float
    mu: float
    sd: float
    x: float
    x_p: float
    y: float
    eps: float
    eps_p: float
    g: float
    g_p: float
    y_q: float
    eps_q: float
    g_q: float
    k3_t: float
    k3_s: float
    guidance: float


def _moments(t: float) -> tuple[float, float, float, float]:
    """(beta, B, mu, sd) at t."""
    b = 0.1 * t + 9.95 * t * t
    return 0.1 + 19.9 * t, b, math.exp(-b / 2), math.sqrt(-math.expm1(-b))


@cache
def _gauss_legendre() -> tuple[tuple[float, float], ...]:
    """16 nodes and their weights on [0, 1]."""
    from numpy.polynomial.legendre import leggauss

    nodes, weights = leggauss(16)
    return tuple(zip(((nodes + 1) / 2).tolist(), (weights / 2).tolist(), strict=True))


def _integrate(f: Callable[[float], tuple[float, ...]], s: float, t: float) -> list[float]:
    """Integrate f over [s, t], in u = sqrt(t) on panels that shrink towards t = 0, where f behaves like 1 / sqrt(t)."""
    low, high = math.sqrt(s), math.sqrt(t)
    edges = [high]
    while edges[-1] > low and len(edges) < 40:
        edges.append(max(edges[-1] / 2, low))
    edges[-1] = low
    total = [0.0] * len(f(t))
    for b, a in pairwise(edges):
        for node, weight in _gauss_legendre():
            u = a + (b - a) * node
            scale = 2 * u * (b - a) * weight
            for i, value in enumerate(f(u * u)):
                total[i] += scale * value
    return total


@lru_cache(maxsize=32)
def intervals(n: int, lam: float, w: float, t_start: float, t_end: float) -> tuple[Interval, ...]:
    """The n steps from t_start to t_end at equal spacing."""
    times = [t_start + (t_end - t_start) * i / n for i in range(n + 1)]
    return tuple(_interval(t, s, lam, w) for t, s in pairwise(times))


def _exponents(t: float, lam: float, w: float) -> tuple[float, float]:
    """(k1, k1 + k2) at t."""
    b = _moments(t)[1]
    return lam * t + b / 2, lam * t + (1 - w) * b / 2


def _k3(t: float, lam: float, w: float, k_end: float) -> float:
    """exp(-k_end) k3 at sigma_y = 1."""
    k = _exponents(t, lam, w)[1]
    return 0.5 * w * (math.exp(k - k_end) - math.exp(-k_end)) * math.log(math.expm1(_moments(t)[1]) + NUM_EPS)


def _interval(t: float, s: float, lam: float, w: float) -> Interval:
    null_s, range_s = _exponents(s, lam, w)
    null_t, range_t = _exponents(t, lam, w)

    def integrands(r: float) -> tuple[float, ...]:
        beta, _, mu, sd = _moments(r)
        null, inside = _exponents(r, lam, w)
        a, b, c = 0.5 * beta * math.exp(null - null_s), 0.5 * beta * math.exp(inside - range_s), 0.5 * beta
        q, inverse = _k3(r, lam, w, range_s), 1.0 / (sd + NUM_EPS)
        return (
            -w * b * mu,
            a * inverse,
            b * (inverse - w * sd),
            w * a * sd * mu,
            w * b * sd * mu,
            -w * c * mu * q,
            c * q * (inverse - w * sd),
            w * c * sd * mu * q,
        )

    shrink = 1 - lam * (t - s)
    beta_t, _, mu, sd = _moments(t)
    return Interval(
        t, s, mu, sd,
        shrink * math.exp(null_t - null_s),
        shrink * math.exp(range_t - range_s),
        *(-value for value in _integrate(integrands, s, t)),
        k3_t=_k3(t, lam, w, range_t),
        k3_s=_k3(s, lam, w, range_s),
        guidance=0.5 * w * beta_t * math.exp(null_t - null_s) * (t - s),
    )  # fmt: skip
