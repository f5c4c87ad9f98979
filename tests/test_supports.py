"""Score mixing for supports other than points: denoisers of uniform laws, the potential, and where flows end."""

from __future__ import annotations

import math

import pytest
import torch

from invsolve.core.checks import InputError
from invsolve.diagnostics import mixing
from invsolve.diagnostics.supports import (
    Disc,
    DistanceSupport,
    Points,
    Segment,
    limit_flow,
    support_potential,
    support_score,
)


def point(*entries: float) -> torch.Tensor:
    return torch.tensor(entries, dtype=torch.float64)


SEGMENT, DISC = Segment(point(-1.0, 0.2), point(1.0, 0.6)), Disc(point(0.3, -0.2), 0.8)
X = 2 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def grid(law: Segment | Disc) -> torch.Tensor:
    """Points that stand for the law."""
    if isinstance(law, Segment):
        share = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
        return law.start + share[:, None] * (law.end - law.start)
    r = ((torch.arange(200, dtype=torch.float64) + 0.5) / 200).sqrt() * law.radius
    angle = 2 * math.pi * torch.arange(200, dtype=torch.float64) / 200
    return law.centre + torch.stack([r[:, None] * angle.cos(), r[:, None] * angle.sin()], 2).flatten(0, 1)


@pytest.mark.parametrize("law", [SEGMENT, DISC], ids=["segment", "disc"])
@pytest.mark.parametrize("t", [1.0, 0.05])
def test_denoisers_are_those_of_the_uniform_law(law, t):
    found = torch.cat([Points(grid(law)).mean(part, t) for part in X.split(50)])
    assert (law.mean(X, t) - found).abs().max() < 1e-4


@pytest.mark.parametrize("law", [SEGMENT, DISC], ids=["segment", "disc"])
def test_the_score_becomes_the_gradient_of_the_squared_distance(law):
    """The mean lies within the mean of a half normal law, sqrt(2 / pi) standard deviations, of the nearest point."""
    for t in (1e-2, 1e-4, 1e-8):
        gap = -4 * t * support_score(X, law, t) - 2 * (X - law.nearest(X))
        assert gap.norm(dim=1).max() < 2 * math.sqrt(2 / math.pi) * math.sqrt(2 * t) * 1.05


def test_points_are_those_of_the_mixing_module():
    a, b = torch.randn(3, 2, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    for lam in (0.3, 2.0):
        value, slope = support_potential(X, Points(a), Points(b), lam)
        torch.testing.assert_close(value, mixing.potential(X, a, b, lam))
        torch.testing.assert_close(slope, mixing.potential_grad(X, a, b, lam))


@pytest.mark.parametrize("support", [SEGMENT, DISC], ids=["segment", "disc"])
def test_a_set_may_be_given_by_its_distance_alone(support):
    outside = X[support.distance(X) > 1e-3]
    same = DistanceSupport(support.distance)
    torch.testing.assert_close(same.nearest(outside), support.nearest(outside), rtol=0, atol=1e-9)


def test_mixing_two_discs_ends_in_one_point_between_them():
    a, b = Disc(point(0.0, 0.0), 0.5), Disc(point(4.0, 0.0), 1.0)
    for lam in (0.3, 0.7):
        end = limit_flow(X[:40] + point(2.0, 0.0), a, b, lam)
        want = lam * point(0.5, 0.0) + (1 - lam) * point(3.0, 0.0)
        assert (end - want).abs().max() < 1e-3
    # classifier-free guidance of a disc inside a disc ends in the inner one for every weight
    inner, outer = Disc(point(0.5, 0.0), 0.4), Disc(point(0.0, 0.0), 2.0)
    for lam in (1.0, 3.0):
        start = X[outer.distance(X) == 0][:40]
        assert inner.distance(limit_flow(start, inner, outer, lam)).max() < 1e-6


def test_the_true_flow_follows_its_limit():
    a, b, lam, x = SEGMENT, DISC, 0.6, X[:20]
    t, ratio = 4.0, math.exp(-0.1)
    while t > 1e-8:
        clean = lam * a.mean(x, t) + (1 - lam) * b.mean(x, t)
        x, t = clean + math.sqrt(ratio) * (x - clean), ratio * t
    value, slope = support_potential(x, a, b, lam)
    assert (value - support_potential(limit_flow(x, a, b, lam), a, b, lam)[0]).max() < 1e-2
    assert slope.norm(dim=1).max() < 0.2  # directions along which both distances hardly change are slow


def test_sets_that_are_none_are_refused():
    with pytest.raises(InputError, match="different ends"):
        Segment(point(0.0, 1.0), point(0.0, 1.0))
    with pytest.raises(InputError, match="radius"):
        Disc(point(0.0, 1.0), 0.0)
    with pytest.raises(InputError, match="lambda"):
        support_potential(X, DISC, SEGMENT, -1.0)
