"""A latent, class-conditional prior trained on scikit-learn's digits: every solver runs on it, and its label counts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy import quick

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.priors.latent import LatentPrior
from invsolve.testing import check_prior

pytest.importorskip("diffusers")
FOLDER = Path(__file__).parent / "data" / "latent-digits"
PIXELS = {name for name in solvers.SOLVERS if solvers.SOLVERS[name].needs.linear or solvers.SOLVERS[name].needs.svd}


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Images [1797, 1, 8, 8] in [0, 1] and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


def prior() -> LatentPrior:
    loaded = priors.load(FOLDER, null=10)
    assert isinstance(loaded, LatentPrior)
    return loaded


def problem(label: Tensor | int | None = None, sigma: float = 0.1, n: int = 2) -> iv.Problem:
    """The first digits (0, 1, ...), half of whose pixels are seen."""
    mask = (torch.arange(64).view(8, 8) % 2).float()
    operator = operators.Inpainting((1, 8, 8), mask[None])
    cost = costs.GaussianLikelihood(operator, None, sigma)
    y = cost.simulate(digits()[0][:n], iv.Rng(0))
    chosen = prior() if label is None else prior().given(label=label)
    return iv.Problem(chosen, costs.GaussianLikelihood(operator, y, sigma))


@pytest.mark.parametrize("name", list(solvers.SOLVERS))
def test_every_solver_runs_on_latents_or_says_what_to_use(name):
    solver = quick(name)
    if name in PIXELS:
        with pytest.raises(iv.CapabilityError, match="use "):
            iv.solve(problem(), solver)
        return
    for chosen in (problem(), problem(torch.tensor([0, 1]))):
        result = iv.solve(chosen, solver)
        assert result.samples.shape == (2, 1, 1, 8, 8)
        assert bool(torch.isfinite(result.samples).all())


@pytest.mark.parametrize("name", ["ndtm", "dps"])
def test_guidance_through_the_decoder_restores_the_digits(name):
    settings = (
        {"n_steps": 40, "zeta": 0.3} if name == "dps" else {"n_steps": 20, "n_inner": 4, "lr": 0.05, "weight": 20.0}
    )
    truth = digits()[0][:2]
    solver = solvers.SOLVERS[name](**settings)
    restored = iv.solve(problem(), solver, samples=4).mean
    free = iv.solve(iv.Problem(prior()), solvers.DDIM(n_steps=20), samples=8).samples[0]
    guided = (restored - truth).square().mean(dim=(1, 2, 3))
    random = (free[:, None] - truth).square().mean(dim=(0, 2, 3, 4))
    assert (guided < 0.5 * random).all()


def test_samples_of_a_class_look_like_that_class():
    """The mean of each class's samples is nearest to the mean of its own digits; a wrong or lost label would not be."""
    images, labels = digits()
    means = torch.stack([images[labels == k].mean(0) for k in range(10)])
    hits = 0
    for k in range(10):
        drawn = iv.solve(iv.Problem(prior().given(label=k)), solvers.DDIM(n_steps=20, eta=1.0), samples=12, seed=k)
        nearest = (drawn.samples[0][:, None] - means).square().mean(dim=(2, 3, 4)).argmin(1)
        hits += int((nearest == k).sum())
    assert hits >= 84  # of 120; 12 by chance


def test_the_prior_passes_its_check_on_digits_and_is_caught_with_another_range():
    images, labels = digits()
    report = check_prior(prior(), images[:200], label=labels[:200], half=False)
    assert report.passed, str(report)
    wrong = check_prior(priors.load(FOLDER, null=10, schedule="linear", parametrization="v"), images[:200], half=False)
    assert not wrong.passed


def test_encoding_and_decoding_return_the_digits():
    own = iv.Problem(prior())
    images = digits()[0][:50]
    back = own.to_image(own.from_image(images))
    assert (back - images).square().mean() < 0.1 * images.var()
    assert own.prior.encode(images * 2 - 1).std().item() == pytest.approx(1.0, abs=0.3)
