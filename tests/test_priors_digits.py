"""The class-conditional prior of the package in every solver: each runs, and the label reaches the network."""

from __future__ import annotations

import pytest
import torch
from toy import quick

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.testing import check_prior

SHAPE = (1, 16, 16)


def problem(label: object) -> iv.Problem:
    """An image of which only one row was seen: what the rest becomes is the label's to say."""
    mask = torch.zeros(SHAPE)
    mask[:, 8] = 1
    y = 0.2 * mask[None].expand(2, -1, -1, -1)
    cost = costs.GaussianLikelihood(operators.Inpainting(SHAPE, mask), y, 0.1)
    return iv.Problem(priors.load("digits").given(label=label), cost)


@pytest.mark.parametrize("name", list(solvers.SOLVERS))
def test_every_solver_runs_and_heeds_the_label(name):
    solver = quick(name)
    one, other, mixed = (iv.solve(problem(label), solver).samples for label in (0, 1, torch.tensor([0, 1])))
    assert bool(torch.isfinite(mixed).all())
    assert mixed.shape == (2, 1, *SHAPE)
    assert (one - other).abs().max() > 1e-3
    # Adam enlarges rounding, so that equal labels in other batches give nearly, not exactly, the same.
    assert (mixed[0] - one[0]).norm() < 0.5 * (mixed[0] - other[0]).norm()
    assert (mixed[1] - other[1]).norm() < 0.5 * (mixed[1] - one[1]).norm()


def test_its_check_passes_on_its_own_samples_and_its_label_is_tried():
    prior = priors.load("digits")
    drawn = iv.solve(iv.Problem(prior.given(label=3)), solvers.DDIM(n_steps=60, eta=1.0), samples=32).samples[0]
    report = check_prior(prior, drawn.clamp(0, 1), label=3, half=False)
    assert report.passed, str(report)
    assert any(entry.name == "label reaches the network" for entry in report.checks)
