"""The two-dimensional reference experiment, through the public solver: one seed against the recorded rows."""

from __future__ import annotations

import math

import pytest
import torch

import invsolve as iv
from invsolve import costs, priors, solvers
from invsolve.diagnostics.control import mode_entropy
from invsolve.solvers.steps.scales import AdaptiveScale, FixedScale, ScaleRule
from invsolve.testing import ReplayRng

TIMES = tuple(1.0 + (1e-3 - 1.0) * i / 500 for i in range(501))
CENTRE = torch.tensor([0.35, 0.0], dtype=torch.float64)


def outcome(rule: ScaleRule) -> tuple[float, float]:
    """Mean reward and mode entropy of 2000 samples."""
    angle = 2 * math.pi * torch.arange(6, dtype=torch.float64) / 6
    means = 0.6 * torch.stack([angle.cos(), angle.sin()], 1)
    prior = priors.MixturePrior(means, torch.full((6,), 0.17**2), None, iv.VPSchedule())
    problem = iv.Problem(prior, costs.RewardCost(lambda x: -(x - CENTRE).square().sum(1)))
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(2000, 2, generator=generator, dtype=torch.float64) for _ in range(501)]
    solver = solvers.Guidance(rule, at="xt", sampler="em", times=TIMES)
    x = iv.solve(problem, solver, samples=2000, rng=ReplayRng(draws)).samples[0]
    return float((-(x - CENTRE).square().sum(1)).exp().mean()), mode_entropy(x, means)


@pytest.mark.slow
def test_rewards_and_diversities_are_those_of_the_reference_configuration() -> None:
    rows = {
        FixedScale(1.0): (0.762, 0.935),
        FixedScale(5.0): (0.904, 0.643),
        FixedScale(20.0): (0.973, 0.191),
        FixedScale(50.0): (0.989, 0.028),
        AdaptiveScale(50.0, "constant"): (0.999, 0.000),
        AdaptiveScale(50.0, "sin2"): (0.889, 0.626),
    }
    found = {rule: outcome(rule) for rule in rows}
    for rule, (reward, diversity) in rows.items():
        assert found[rule][0] == pytest.approx(reward, abs=0.02)
        assert found[rule][1] == pytest.approx(diversity, abs=0.04)
    order = [AdaptiveScale(50.0, "constant"), FixedScale(50.0), FixedScale(20.0), AdaptiveScale(50.0, "sin2")]
    diversities = [found[rule][1] for rule in order]
    assert diversities == sorted(diversities)
