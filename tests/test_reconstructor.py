"""Solvers as reconstructors of deepinv."""

from __future__ import annotations

import warnings

import pytest
import torch
import toy

import invsolve as iv
from invsolve import costs, operators, solvers

SOLVER = solvers.NDTM(n_steps=4, n_inner=1, start="random")


@pytest.fixture(scope="module")
def dinv():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import deepinv

        return deepinv


@pytest.fixture
def measured(dinv):
    physics = dinv.physics.Inpainting(toy.SHAPE, mask=torch.rand(toy.SHAPE) < 0.6)
    physics.noise_model = dinv.physics.GaussianNoise(0.05)
    x = toy.gaussian().sample(2, iv.Rng(3)).clamp(0, 1).float()
    return physics, x, physics(x)


def test_a_reconstructor_is_the_solver_on_the_physics(dinv, measured):
    physics, _, y = measured
    model = iv.as_reconstructor(solvers.DDRM(n_steps=8), toy.gaussian(), samples=3, seed=5)
    assert isinstance(model, dinv.models.Reconstructor)
    out = model(y, physics)
    cost = costs.GaussianLikelihood(operators.as_operator(physics), y, 0.05)
    by_hand = iv.solve(iv.Problem(toy.gaussian(), cost), solvers.DDRM(n_steps=8), samples=3, seed=5)
    torch.testing.assert_close(out, by_hand.samples.mean(1), rtol=0, atol=1e-7, check_dtype=False)
    assert torch.equal(out, model(y, physics))


def test_the_noise_model_becomes_the_likelihood(dinv, measured):
    physics, x, _ = measured
    p = dinv.physics
    operator = operators.Denoising(toy.SHAPE)
    y = x.clamp(0.1, 1)
    cases = [
        (p.GaussianNoise(0.1), costs.GaussianLikelihood(operator, y, 0.1)),
        (p.GaussianNoise(torch.tensor([0.1, 0.3])), costs.GaussianLikelihood(operator, y, torch.tensor([0.1, 0.3]))),
        (p.PoissonNoise(0.02), costs.PoissonLikelihood(operator, y, 50.0)),
        (p.PoissonNoise(0.5, normalize=False), costs.PoissonLikelihood(operator, 0.5 * y, 2.0)),
        (p.PoissonGaussianNoise(0.02, 0.1), costs.PoissonGaussianLikelihood(operator, y, 50.0, 0.1)),
        (p.LaplaceNoise(0.1), costs.LaplaceLikelihood(operator, y, 0.1)),
        (p.GammaNoise(4.0), costs.SpeckleLikelihood(operator, y, 4.0)),
    ]
    for noise, cost in cases:
        physics = p.Denoising(noise)
        out = iv.as_reconstructor(SOLVER, toy.gaussian())(y, physics)
        by_hand = iv.solve(iv.Problem(toy.gaussian(), cost), SOLVER).samples[:, 0]
        torch.testing.assert_close(out, by_hand, rtol=0, atol=1e-6, check_dtype=False)


def test_a_physics_without_a_noise_level_needs_a_cost(dinv, measured):
    physics, _, y = measured
    physics.noise_model = dinv.physics.ZeroNoise()
    with pytest.raises(iv.CapabilityError, match="no likelihood for the noise model ZeroNoise"):
        iv.as_reconstructor(SOLVER, toy.gaussian())(y, physics)
    model = iv.as_reconstructor(SOLVER, toy.gaussian(), cost=lambda A, y: costs.LaplaceLikelihood(A, y, 0.1))
    assert model(y, physics).shape == y.shape
