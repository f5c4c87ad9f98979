"""Mixed scores of distributions on extended supports: segments, discs, or any set given by its distance.

As in `invsolve.diagnostics.mixing`, the flow of lam grad log u_1 + (1 - lam) grad log u_2 follows -grad Phi / 4 in
tau = -log t as t -> 0, Phi(x) = lam d_1(x)^2 + (1 - lam) d_2(x)^2, and grad d_i(x)^2 = 2 (x - P_i x) with P_i x the
nearest point of the support. Liu and Zuazua 2026, arXiv 2605.12231.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.core.checks import InputError, check_positive

__all__ = [
    "Disc",
    "DistanceSupport",
    "Points",
    "Segment",
    "Support",
    "limit_flow",
    "support_potential",
    "support_score",
]


class Support(ABC):
    """A closed set in R^d."""

    @abstractmethod
    def nearest(self, x: Tensor) -> Tensor:
        """The point of the set nearest to each x, [N, d]; one of them if there are several."""

    def distance(self, x: Tensor) -> Tensor:
        """|x - nearest(x)|, [N]."""
        return (x - self.nearest(x)).norm(dim=1)


class Law(Support):
    """A support with the uniform distribution on it."""

    @abstractmethod
    def mean(self, x: Tensor, t: float) -> Tensor:
        """E[a | a + sqrt(2 t) n = x], [N, d]: the denoiser of the heat flow."""


@dataclass(frozen=True, eq=False)
class Points(Law):
    """Finitely many points [J, d] with equal weights."""

    points: Tensor

    def nearest(self, x: Tensor) -> Tensor:
        return self.points[torch.cdist(x, self.points).argmin(1)]

    def mean(self, x: Tensor, t: float) -> Tensor:
        return (-torch.cdist(x, self.points).square() / (4 * t)).softmax(1) @ self.points


@dataclass(frozen=True, eq=False)
class Segment(Law):
    """The segment between two different points [d]."""

    start: Tensor
    end: Tensor

    def __post_init__(self) -> None:
        if not bool((self.start != self.end).any()):
            raise InputError("a segment needs two different ends: use Points for one point")

    def _along(self, x: Tensor) -> tuple[Tensor, Tensor, float]:
        """Direction, coordinate along it, and length."""
        length = float((self.end - self.start).norm())
        direction = (self.end - self.start) / length
        return direction, (x - self.start) @ direction, length

    def nearest(self, x: Tensor) -> Tensor:
        direction, along, length = self._along(x)
        return self.start + along.clamp(0, length)[:, None] * direction

    def mean(self, x: Tensor, t: float) -> Tensor:
        direction, along, length = self._along(x)
        std = math.sqrt(2 * t)
        flip = along > length / 2  # mirrored, so that the nearer end is 0
        near = torch.where(flip, length - along, along)
        low, high = -near / std, (length - near) / std
        # the mean of a truncated normal distribution; the mass of [low, high] is the difference of two upper tails
        tails = torch.special.log_ndtr(-low), torch.special.log_ndtr(-high)
        mass = tails[0] + torch.log1p(-(tails[1] - tails[0]).exp())
        edges = [(-0.5 * edge.square() - 0.5 * math.log(2 * math.pi) - mass).exp() for edge in (low, high)]
        place = (near + std * (edges[0] - edges[1])).clamp(0, length)
        return self.start + torch.where(flip, length - place, place)[:, None] * direction


@dataclass(frozen=True, eq=False)
class Disc(Law):
    """The points of the plane within `radius` of `centre` [2]."""

    centre: Tensor
    radius: float

    def __post_init__(self) -> None:
        if not 0 < self.radius < math.inf or self.centre.shape != (2,):
            raise InputError(f"a disc needs a centre [2] and a radius above 0, got {self.centre} and {self.radius}")

    def nearest(self, x: Tensor) -> Tensor:
        away = x - self.centre
        size = away.norm(dim=1, keepdim=True)
        return self.centre + away * (self.radius / size.clamp_min(self.radius))

    def mean(self, x: Tensor, t: float) -> Tensor:
        from numpy.polynomial.legendre import leggauss

        away = x - self.centre
        size = away.norm(dim=1, keepdim=True)
        std = math.sqrt(2 * t)
        # the integrand in r has width std about |x|, or std^2 / (|x| - R) at the rim where x lies far outside
        outside = (size - self.radius).clamp_min(1e-300)
        width = torch.minimum(torch.full_like(size, 12 * std), 40 * std**2 / outside)
        width = torch.where(size > self.radius, torch.maximum(width, torch.full_like(width, 1e-14)), 12 * std)
        centre = size.clamp_max(self.radius)
        low, high = (centre - width).clamp_min(0.0), (centre + width).clamp_max(self.radius)
        nodes, weights = (torch.from_numpy(part).to(x) for part in leggauss(400))
        r = low + (high - low) * (nodes + 1) / 2
        exponent = -(r - size).square() / (2 * std**2)
        share = weights * (exponent - exponent.amax(1, keepdim=True)).exp() * r
        angle = r * size / std**2
        radial = (share * r * torch.special.i1e(angle)).sum(1) / (share * torch.special.i0e(angle)).sum(1)
        return self.centre + away * (radial[:, None] / size.clamp_min(1e-300))


@dataclass(frozen=True, eq=False)
class DistanceSupport(Support):
    """Any set, by its distance function [N, d] -> [N], differentiable off the set: nearest(x) = x - d(x) grad d(x)."""

    function: Callable[[Tensor], Tensor]

    def distance(self, x: Tensor) -> Tensor:
        return self.function(x)

    def nearest(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            free = x.detach().requires_grad_()
            distance = self.function(free)
            (slope,) = torch.autograd.grad(distance.sum(), free)
        return x - torch.where(distance[:, None] > 0, distance.detach()[:, None] * slope, 0.0)


def support_score(x: Tensor, law: Law, t: float) -> Tensor:
    """grad log u(x, t) of the uniform distribution, [N, d]: -(x - mean) / (2 t)."""
    return -(x - law.mean(x, t)) / (2 * t)


def support_potential(x: Tensor, a: Support, b: Support, lam: float) -> tuple[Tensor, Tensor]:
    """Phi(x) [N] and its gradient 2 (x - lam P_1 x - (1 - lam) P_2 x) [N, d].

    Raises:
        InputError: lam is below 0.
    """
    check_positive(lam, "lambda", zero=True)
    value = lam * a.distance(x).square() + (1 - lam) * b.distance(x).square()
    return value, 2 * (x - lam * a.nearest(x) - (1 - lam) * b.nearest(x))


def limit_flow(x: Tensor, a: Support, b: Support, lam: float, duration: float = 40.0, h: float = 0.05) -> Tensor:
    """The end of dx/dtau = -grad Phi(x) / 4 from x [N, d] after `duration`; steps are exact for fixed nearest points.

    If lam > 1 and Phi has convex kinks, the steps stay within O(h) of them.
    """
    shrink = math.exp(-h / 2)
    for _ in range(math.ceil(duration / h)):
        target = x - support_potential(x, a, b, lam)[1] / 2
        x = target + shrink * (x - target)
    return x
