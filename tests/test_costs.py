"""Likelihoods are the densities they claim to be; costs add and scale."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

import invsolve as iv
from invsolve import costs, operators

SHAPE = (1, 4, 4)
A = operators.SuperResolution(SHAPE, 2)


def image(n: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gaussian_energy_is_scipys_negative_log_density():
    x, y, sigma = image(), torch.rand(3, 1, 2, 2, dtype=torch.float64), torch.tensor([0.1, 0.2, 0.3])
    want = -stats.norm.logpdf(y.numpy(), A(x).numpy(), sigma.double().numpy().reshape(3, 1, 1, 1)).sum((1, 2, 3))
    torch.testing.assert_close(costs.GaussianLikelihood(A, y, sigma)(x), torch.from_numpy(want), rtol=1e-6, atol=0)


def test_poisson_energy_is_scipys_negative_log_mass():
    x = image()
    likelihood = costs.PoissonLikelihood(A, None, peak=50.0, background=2.0)
    y = likelihood.simulate(x, iv.Rng(0))
    rate = 50.0 * A(x).clamp_min(0) + 2.0
    want = -stats.poisson.logpmf((50 * y).round().numpy(), rate.numpy()).sum((1, 2, 3))
    got = costs.PoissonLikelihood(A, y, peak=50.0, background=2.0)(x)
    torch.testing.assert_close(got, torch.from_numpy(want), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_simulated_noise_has_the_stated_moments(kind):
    x, n = image(1), 4000
    many = x.expand(n, *SHAPE)
    if kind == "gaussian":
        draws, clean = costs.GaussianLikelihood(A, None, 0.1).simulate(many, iv.Rng(0)), A(x)[0]
        variance = torch.full_like(clean, 0.01)
    else:
        draws, clean = costs.PoissonLikelihood(A, None, peak=20.0).simulate(many, iv.Rng(0)), A(x)[0]
        variance = clean / 20
    assert ((draws.mean(0) - clean) / (variance / n).sqrt()).abs().max() < 5
    assert (draws.var(0) / variance - 1).abs().max() < 6 * (2 / n) ** 0.5


def test_costs_add_and_scale_and_select():
    y = image(3, seed=1)
    likelihood = costs.GaussianLikelihood(operators.Denoising(SHAPE), y, 0.1)
    reward = costs.FunctionCost(lambda x: x.flatten(1).sum(1))
    x, total = image(3, seed=2), likelihood + 2.0 * reward
    torch.testing.assert_close(total(x), likelihood(x) + 2 * reward(x))
    assert total.items == 3
    rows = torch.tensor([2, 2])
    torch.testing.assert_close(total.select(rows)(x[rows]), total(x)[rows])


def test_gradients_match_finite_differences():
    y = torch.rand(2, 1, 2, 2, dtype=torch.float64)
    for cost in (costs.GaussianLikelihood(A, y, 0.1), costs.PoissonLikelihood(A, y, peak=30.0)):
        assert torch.autograd.gradcheck(cost, image(2).requires_grad_())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: costs.GaussianLikelihood(A, None, -0.1), "sigma"),
        (lambda: costs.GaussianLikelihood(A, None, 0.0), "small one"),
        (lambda: costs.GaussianLikelihood(A, torch.zeros(1, 1, 3, 3), 0.1), "shape"),
        (lambda: costs.GaussianLikelihood(A, torch.full((1, 1, 2, 2), torch.nan), 0.1), "not finite"),
        (lambda: costs.GaussianLikelihood(A, None, 0.1)(image()), "no measurement"),
        (lambda: costs.PoissonLikelihood(A, -torch.ones(1, 1, 2, 2), 1.0), "negative"),
        (lambda: costs.PoissonLikelihood(A, None, 0.0), "peak"),
        (lambda: costs.FunctionCost(lambda x: x.sum())(image()), "one energy for each sample"),
    ],
)
def test_bad_costs_are_refused(make, message):
    with pytest.raises(iv.InputError, match=message):
        make()
