"""The bound of a guided sampler's error: its parts vanish where they should, and it bounds what samplers really do."""

from __future__ import annotations

import math

import pytest
import torch

import invsolve as iv
from invsolve.core.checks import InputError
from invsolve.diagnostics.endtoend import guidance_budget
from invsolve.diagnostics.reliability import oscillating
from invsolve.priors.exact import GaussianPrior
from invsolve.priors.labelled import LabelledMixture

TIMES = tuple(1.0 + (1e-3 - 1.0) * k / 100 for k in range(101))
DIRECTION = torch.ones(1, dtype=torch.float64)


def mixture(std: float = 0.6) -> LabelledMixture:
    means = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    return LabelledMixture(means, torch.full((2,), std**2), torch.tensor([0, 1]), None, iv.VPSchedule())


def exact(x, t):
    return mixture().class_log_prob(x, t)


def test_an_exact_classifier_and_score_leave_start_and_step_alone():
    found = guidance_budget(mixture(), 1, exact, TIMES, 400, iv.Rng(0))
    assert found.score == 0.0
    assert found.guidance < 1e-20
    assert found.together == pytest.approx(found.step)
    assert found.start < 1e-3  # alpha_T is 0.0066
    finer = tuple(1.0 + (1e-3 - 1.0) * k / 200 for k in range(201))
    ratio = found.step / guidance_budget(mixture(), 1, exact, finer, 400, iv.Rng(0)).step
    assert 1.6 < ratio < 2.6  # of first order in the step


def test_a_classifier_that_oscillates_pays_as_the_formula_says():
    """1/2 int beta G_1 dt, G_1 = E |grad log q_1 - grad log p_1|^2: 9.2 nats at (0.25, 16), 0.041 at (0.25, 1)."""
    wrong = oscillating(mixture(), 0.25, 16.0, DIRECTION)
    found = guidance_budget(mixture(), 1, wrong, TIMES, 800, iv.Rng(0))
    assert found.guidance == pytest.approx(9.2, rel=0.15)
    slow = guidance_budget(mixture(), 1, oscillating(mixture(), 0.25, 1.0, DIRECTION), TIMES, 800, iv.Rng(0))
    assert slow.guidance == pytest.approx(0.041, rel=0.3)
    for part in (found, slow):
        assert part.together <= 3 * (part.score + part.guidance + part.step) + 1e-9
        assert part.total == part.start + part.together


def test_a_wrong_score_is_told_and_the_bound_holds_for_gaussians():
    """One class N(0, v), a prior N(m, v) in its place: the sampler's law is N(m, v), KL = m^2 / (2 v)."""
    v, m = 0.36, 0.5
    law = LabelledMixture(torch.zeros(2, 1).double(), torch.full((2,), v), torch.tensor([0, 1]), None, iv.VPSchedule())
    shifted = GaussianPrior(torch.full((1,), m).double(), torch.tensor([v]), iv.VPSchedule())
    found = guidance_budget(law, 0, law.class_log_prob, TIMES, 800, iv.Rng(0), shifted)
    assert found.guidance < 1e-20
    assert found.total >= m**2 / (2 * v) - 3 * found.error
    assert found.score == pytest.approx(m**2 / (2 * v), rel=0.1)  # tight: the error of the score is the law's


def test_times_that_do_not_fall_are_refused():
    with pytest.raises(InputError, match="fall"):
        guidance_budget(mixture(), 1, exact, (0.5, 0.0), 10, iv.Rng(0))
    assert math.isfinite(guidance_budget(mixture(), 1, exact, (0.5, 0.1), 10, iv.Rng(0)).total)
