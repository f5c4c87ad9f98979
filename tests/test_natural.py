"""The priors of photographs in use: any size, frozen, and samples that are their own in float32 too."""

from __future__ import annotations

import pytest
import torch
import toy

import invsolve as iv
from invsolve import costs, operators, priors
from invsolve.testing.images import natural_images

SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def natural() -> iv.Prior:
    return priors.load("natural")


@pytest.mark.parametrize("name", ["ddim", "dps", "ndtm", "pnp-hqs", "red-diff", "diffpir", "ddrm", "ddnm"])
def test_samples_do_not_depend_on_their_batch(name, natural):
    operator = operators.SuperResolution(SHAPE, 2)
    clean = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)).repeat_interleave(8, 2)
    clean = clean.repeat_interleave(8, 3).expand(3, *SHAPE)
    likelihood = costs.GaussianLikelihood(operator, None, 0.02)
    likelihood = costs.GaussianLikelihood(operator, likelihood.simulate(clean, iv.Rng(0)), 0.02)
    whole = iv.solve(iv.Problem(natural, likelihood), toy.quick(name), samples=2)
    alone = iv.solve(iv.Problem(natural, likelihood.select(torch.tensor([2]))), toy.quick(name), samples=2, items=[2])
    assert whole.ok
    torch.testing.assert_close(alone.samples[0], whole.samples[2], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["natural", "natural-deep"])
@pytest.mark.parametrize("size", [(1, 1), (17, 40), (64, 64)])
def test_images_of_any_size_are_denoised(size, name):
    natural = priors.load(name)
    t = natural.schedule.time_of(0.2)
    alpha, sigma = natural.schedule(t)
    clean = torch.full((1, 3, *size), 0.3)
    x_t = alpha * clean + sigma * iv.Rng(0).normal(clean)
    assert (natural.denoise(x_t, t) - clean).square().mean() < 0.5 * 0.2**2


def test_the_deeper_network_removes_weak_and_strong_noise_better():
    """In photographs that neither was trained on, the bundled ones."""
    plain, deep = priors.load("natural"), priors.load("natural-deep")
    clean = 2 * natural_images(plain) - 1
    for level in (0.06, 0.12, 0.2, 0.4, 0.8):
        t = plain.schedule.time_of(level)
        alpha, sigma = plain.schedule(t)
        x_t = alpha * clean + sigma * iv.Rng(1).normal(clean)
        errors = [(prior.denoise(x_t, t) - clean).square().mean() for prior in (deep, plain)]
        assert errors[0] < errors[1]


def test_an_unknown_prior_is_named_with_the_nearest():
    with pytest.raises(iv.InputError, match="did you mean 'natural'"):
        priors.load("naturel")
