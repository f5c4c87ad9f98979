"""Unknown noise level, gamma and mask offset as parameter blocks; penalties on parameters."""

from __future__ import annotations

import pytest
import torch
import toy

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.core.cost import Likelihood


def found(likelihood: Likelihood, block: iv.Unknown, name: str, **settings) -> torch.Tensor:
    solver = solvers.NDTM(**{"n_steps": 40, "n_inner": 3, "lr": 0.05, "start": "random", "weights": "ddim", **settings})
    result = iv.solve(iv.Problem(toy.gaussian(), likelihood, iv.Unknowns({name: block})), solver)
    assert result.ok
    return result.theta[name].flatten()


def test_an_unknown_gamma_is_found():
    clean = toy.gaussian().sample(2, iv.Rng(1)).clamp(0.05, 1.5)
    operator = operators.ToneCurve(toy.SHAPE)
    gamma = torch.full((2, 1), 1.8, dtype=torch.float64)
    y = operator(clean, {"gamma": gamma}) + 0.01 * iv.Rng(2).normal(clean)
    block = iv.Unknown((1,), "softplus", torch.tensor([0.5]), lr=0.05)  # softplus(0.5) = 0.97
    assert ((found(costs.GaussianLikelihood(operator, y, 0.01), block, "gamma", weight=10.0) - 1.8).abs() < 0.4).all()


def test_an_unknown_noise_level_is_found_beside_the_image():
    clean = toy.gaussian().sample(2, iv.Rng(1))
    y = clean + 0.2 * iv.Rng(2).normal(clean)
    likelihood = costs.UnknownGaussianLikelihood(operators.Denoising(toy.SHAPE), y)
    block = iv.Unknown((1,), "softplus", torch.tensor([1.0]), lr=0.1, penalty=operators.near(0.2, 0.1))
    levels = found(likelihood, block, "sigma", weight=0.05, n_steps=60)
    assert ((levels > 0.03) & (levels < 0.4)).all(), levels  # it starts at 1.31


@pytest.mark.parametrize(
    "solver",
    [
        solvers.NDTM(n_steps=30, n_inner=3, lr=0.05, start="random"),
        solvers.DPS(n_steps=100, zeta=0.1),
        solvers.REDdiff(n_steps=100, lr=0.05, lam=1.0, start="random"),
        solvers.DMPlug(n_iterations=80, lr=0.05),
    ],
)
def test_an_unknown_mask_offset_is_found(solver):
    prior = priors.GaussianPrior(torch.full((1, 16, 16), 0.6), 0.01)
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    disc = ((rows - 7.5).square() + (columns - 7.5).square() > 16).float()
    operator = operators.ShiftedMask((1, 16, 16), disc)
    offset = torch.tensor([[1.5, -1.0], [-0.8, 2.0]], dtype=torch.float64)
    clean = prior.sample(2, iv.Rng(1))
    y = operator(clean, {"offset": offset}) + 0.02 * iv.Rng(2).normal(clean)
    unknowns = iv.Unknowns({"offset": iv.Unknown((2,), initial=torch.zeros(2), lr=0.1)})
    result = iv.solve(iv.Problem(prior, costs.GaussianLikelihood(operator, y, 0.02), unknowns), solver)
    assert ((result.theta["offset"][:, 0] - offset).abs() < 0.3).all()


def test_penalties_are_what_they_say():
    theta = torch.tensor([[[0.25, 0.0], [0.25, 0.5]]], dtype=torch.float64)
    assert float(operators.sparsity(2.0)(theta)) == pytest.approx(2 * (0.5 + 0.5 + 0.5**0.5), rel=1e-3)
    assert float(operators.smoothness(3.0)(theta)) == pytest.approx(3 * (0.0 + 0.25 + 0.0625 + 0.0625))
    assert float(operators.near(0.5, 0.5)(theta)) == pytest.approx((0.0625 + 0.25 + 0.0625) / 0.5)
    for bad in (lambda: operators.sparsity(-1.0), lambda: operators.sparsity(1.0, 0.0), lambda: operators.near(0, 0)):
        with pytest.raises(iv.InputError):
            bad()
