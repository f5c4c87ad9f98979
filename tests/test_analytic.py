"""Analytic priors against brute force."""

from __future__ import annotations

import pytest
import torch
import toy

import invsolve as iv
from invsolve import costs, operators, priors

G = torch.Generator().manual_seed(0)
MEANS = torch.randn(3, 1, 1, 2, generator=G, dtype=torch.float64)
COVS = torch.stack([toy.covariance(2, seed) * 4 for seed in range(3)])
WEIGHTS = torch.tensor([0.5, 0.3, 0.2])


@pytest.mark.parametrize("covs", [COVS, COVS.diagonal(dim1=1, dim2=2).contiguous(), torch.tensor([0.1, 0.2, 0.3])])
@pytest.mark.parametrize("schedule", [iv.DDPMSchedule(), iv.VESchedule(5.0), iv.FlowSchedule()], ids=repr)
def test_the_denoiser_is_the_conditional_mean(covs, schedule):
    """E[x0 | x_t] against a sum over a fine grid of x0, and the score against autograd of log p_t."""
    prior = priors.MixturePrior(MEANS, covs, WEIGHTS, schedule)
    axis = torch.linspace(-5, 5, 401, dtype=torch.float64)
    x0 = torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
    t = schedule.time_of(0.8)
    alpha, sigma = schedule(t)
    x_t = torch.randn(4, 1, 1, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    log = prior.log_prob(x0)[None] - (x_t[:, None] - alpha * x0[None]).square().sum((2, 3, 4)) / (2 * sigma**2)
    expected = torch.einsum("nk,kchw->nchw", log.softmax(1), x0)
    torch.testing.assert_close(prior.denoise(x_t, t), expected, rtol=0, atol=1e-6)
    free = x_t.clone().requires_grad_()
    (score,) = torch.autograd.grad(prior.log_prob(free, t).sum(), free)
    torch.testing.assert_close(prior.score(x_t, t), score, rtol=0, atol=1e-9)


def test_the_posterior_is_the_product_of_prior_and_likelihood():
    """Mean, covariance and mode weights against a sum over a grid, for several measurements and noise levels."""
    prior = priors.MixturePrior(MEANS, COVS, WEIGHTS)
    operator = operators.as_operator(lambda x: x[..., :1] + 0.5 * x[..., 1:], in_shape=(1, 1, 2), linear=True)
    y = torch.tensor([[[[0.3]]], [[[-1.0]]]], dtype=torch.float64)
    likelihood = costs.GaussianLikelihood(operator, y, torch.tensor([0.2, 0.4]))
    posterior = prior.posterior(likelihood)
    axis = torch.linspace(-6, 6, 801, dtype=torch.float64)
    x0 = torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
    for b in range(2):
        one = likelihood.select(torch.tensor([b]))
        energy = torch.cat([one.select(torch.zeros(len(part), dtype=torch.long))(part) for part in x0.split(100_000)])
        weight = (prior.log_prob(x0) - energy).softmax(0)
        mean = (weight[:, None] * x0.flatten(1)).sum(0)
        centred = x0.flatten(1) - mean
        torch.testing.assert_close(posterior.mean[b].flatten(), mean, rtol=0, atol=1e-4)
        torch.testing.assert_close(posterior.cov[b], (weight[:, None] * centred).T @ centred, rtol=0, atol=1e-4)


def test_exact_samples_have_the_stated_moments():
    prior = toy.gaussian()
    posterior = prior.posterior(toy.likelihood(2))
    n = 4000
    draws = posterior.sample(n, iv.Rng(0)).flatten(2)
    for b in range(2):
        spread = posterior.cov[b].diagonal().sqrt()
        z = (draws[b].mean(0) - posterior.mean[b].flatten()) / spread * n**0.5
        assert z.abs().max() < 5.5  # 48 standard normals: a false alarm in about 2e-6
        assert (draws[b].std(0) / spread - 1).abs().max() < 5.5 / (2 * n) ** 0.5


def test_the_posterior_is_in_image_units_whatever_the_range():
    likelihood = toy.likelihood(2)
    a, b = (toy.gaussian(r).posterior(likelihood) for r in ((0.0, 1.0), (-1.0, 1.0)))
    torch.testing.assert_close(a.mean, b.mean)
    torch.testing.assert_close(a.cov, b.cov)


def test_point_masses_are_mixtures_without_spread():
    prior = priors.MixturePrior(MEANS, torch.zeros(3), WEIGHTS, iv.VESchedule(10.0))
    near = MEANS[1:2] + 0.001
    torch.testing.assert_close(prior.denoise(near, 0.35), MEANS[1:2], rtol=0, atol=1e-6)


def test_bad_laws_are_refused():
    with pytest.raises(iv.InputError, match="positive semi-definite"):
        priors.GaussianPrior(torch.zeros(1, 1, 2), torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(iv.InputError, match="covariances of shape"):
        priors.GaussianPrior(torch.zeros(1, 1, 2), torch.eye(3))
    with pytest.raises(iv.InputError, match="weights"):
        priors.MixturePrior(MEANS, COVS, torch.tensor([1.0, -1.0, 1.0]))
    nonlinear = operators.as_operator(lambda x: x**2, in_shape=(1, 1, 2))
    with pytest.raises(iv.CapabilityError, match="linear"):
        priors.MixturePrior(MEANS, COVS).posterior(costs.GaussianLikelihood(nonlinear, torch.zeros(1, 1, 1, 2), 0.1))


def test_a_mixture_takes_lists_of_its_components():
    means = [torch.zeros(2, 2), torch.ones(2, 2)]
    listed = priors.MixturePrior(means, [0.1, 0.2], [1.0, 3.0])
    whole = priors.MixturePrior(torch.stack(means), torch.tensor([0.1, 0.2]), torch.tensor([1.0, 3.0]))
    x = torch.rand(3, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(listed.denoise(x, 0.5), whole.denoise(x, 0.5), rtol=1e-6, atol=1e-6)
