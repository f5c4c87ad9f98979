"""Divergences of point masses under the forward process: identities, bounds, and inequalities that fail as printed."""

from __future__ import annotations

import math

import pytest
import torch

import invsolve as iv
from invsolve.core.checks import InputError
from invsolve.diagnostics.discrepancy import discrepancy_bound
from invsolve.diagnostics.laws import fisher_bound, fisher_identity, harnack_margin, kl_bound, law_gap, log_density

POINTS = torch.tensor([[1.5, 0.0], [-0.5, 1.2], [-1.5, 0.0], [0.3, -0.9]], dtype=torch.float64)
P, Q = torch.tensor([0.1, 0.2, 0.3, 0.4]).double().log(), torch.tensor([0.4, 0.3, 0.2, 0.1]).double().log()
SCHEDULES = [iv.VPSchedule(), iv.VESchedule(5.0, 0.02, 1.0), iv.FlowSchedule()]


def test_two_points_far_apart_keep_their_divergence_and_equal_laws_have_none():
    far = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    p, q = (torch.tensor(w, dtype=torch.float64).log() for w in ([0.3, 0.7], [0.6, 0.4]))
    discrete = 0.3 * math.log(0.5) + 0.7 * math.log(1.75)
    assert law_gap(far, p, q, 1.0, 0.05).kl == pytest.approx(discrete, abs=1e-12)
    assert law_gap(far, p, p, 1.0, 0.5) == (pytest.approx(0, abs=1e-15), pytest.approx(0, abs=1e-15))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_divergence_falls_by_the_fisher_information_and_both_keep_their_bounds(schedule):
    diameter = float(torch.cdist(POINTS, POINTS).max())
    for t in (0.4, 0.6, 0.8):
        slope, wanted = fisher_identity(POINTS, P, Q, schedule, t)
        assert slope < 0
        assert slope == pytest.approx(wanted, rel=2e-4)
        found = law_gap(POINTS, P, Q, *schedule(t))
        assert 0 < found.kl < kl_bound(schedule, t, diameter)
        assert 0 < found.fisher < fisher_bound(schedule, t, diameter)
        assert fisher_bound(schedule, t, diameter) == pytest.approx(discrepancy_bound(schedule, t, diameter) ** 2)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_harnacks_inequality_holds_everywhere_and_is_sharp_for_a_point(schedule):
    generator = torch.Generator().manual_seed(0)
    x1, x2 = (3 * torch.randn(4000, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    for t1, t2 in ((0.2, 0.3), (0.3, 0.9), (0.05, 0.1)):
        assert float(harnack_margin(POINTS, P, schedule, x1, t1, x2, t2).min()) >= -1e-9
    point = torch.zeros(1, 2, dtype=torch.float64)
    (a1, g1), (a2, g2) = schedule(0.3), schedule(0.6)
    y1 = torch.tensor([[0.7, -0.4]], dtype=torch.float64)
    y2 = y1 * (g2 / a2) ** 2 / (g1 / a1) ** 2  # where the two sides touch
    margin = harnack_margin(point, torch.zeros(1).double(), schedule, a1 * y1, 0.3, a2 * y2, 0.6)
    assert float(margin) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(InputError, match="t1 < t2"):
        harnack_margin(POINTS, P, schedule, x1, 0.5, x2, 0.5)


def test_the_inequalities_fail_as_printed():
    one = torch.zeros(1).double()
    # variance exploding with s = sigma^2 in the place of sigma^2 / 2
    point, sigma1, sigma2 = torch.zeros(1, 1).double(), 1.0, 1.5
    x1 = torch.tensor([[20.0]]).double()
    x2 = x1 * sigma2**2 / sigma1**2
    left, right = (log_density(x, point, one, 1.0, s) for x, s in ((x1, sigma1), (x2, sigma2)))
    growth = 0.5 * math.log(sigma2**2 / sigma1**2) + (x1 - x2).square().sum() / (4 * (sigma2**2 - sigma1**2))
    assert float(right + growth - left) < -50
    # variance preserving in the clock of dx = -x dt + sqrt(2) dw, without the change of scale
    point, x = torch.tensor([[5.0]]).double(), torch.tensor([[7.46]]).double()
    sides = [log_density(x, point, one, math.exp(-s), math.sqrt(1 - math.exp(-2 * s))) for s in (0.4, 4.0)]
    assert float(sides[0] - sides[1]) - 0.5 * math.log(4.0 / 0.4) == pytest.approx(11, abs=0.1)
