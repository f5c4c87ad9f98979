"""A denoiser of azula is the prior that it says: the same estimates, and the exact posterior with an exact denoiser."""

from __future__ import annotations

import pytest
import torch

import invsolve as iv
from invsolve import costs, operators, priors, solvers

azula = pytest.importorskip("azula")


def denoiser():
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import VPSchedule

    class Flat(Denoiser):
        """Pixels from N(0, 0.3^2) in [-1, 1] units."""

        def __init__(self) -> None:
            super().__init__()
            self.schedule = VPSchedule()
            self.variance = torch.nn.Parameter(torch.tensor(0.09, dtype=torch.float64))

        def forward(self, x_t, t, **kwargs):
            alpha, sigma = self.schedule(t)
            return DiracPosterior(mean=alpha * self.variance * x_t / (alpha**2 * self.variance + sigma**2))

    return Flat()


def test_samples_with_an_azula_denoiser_follow_the_posterior():
    """Mean and deviation of 400 samples; false alarms below 1e-5 (4.5 standard errors, 8 numbers)."""
    prior = priors.AzulaPrior(denoiser(), shape=(1, 2, 2))
    assert not any(p.requires_grad for p in prior.denoiser.parameters())
    A = operators.Denoising((1, 2, 2))
    cost = costs.GaussianLikelihood(A, torch.full((1, 1, 2, 2), 0.7, dtype=torch.float64), 0.1)
    out = iv.solve(iv.Problem(prior, cost), solvers.PiGDM(n_steps=150, prior_std=0.3), samples=400)
    variance = 1 / (1 / 0.15**2 + 1 / 0.1**2)
    mean = variance * (0.5 / 0.15**2 + 0.7 / 0.1**2)
    error = (variance / 400) ** 0.5
    assert out.ok
    assert (out.samples[0].mean(0) - mean).abs().max() < 4.5 * error + 0.01
    assert (out.samples[0].std(0) / variance**0.5 - 1).abs().max() < 4.5 / 800**0.5 + 0.03


def test_what_is_no_denoiser_is_refused():
    with pytest.raises(iv.InputError, match="an azula denoiser with a schedule is needed, got Identity"):
        priors.AzulaPrior(torch.nn.Identity())


def test_states_stay_in_float32_whatever_the_precision_of_the_network():
    for half in (torch.bfloat16, torch.float16):
        assert priors.AzulaPrior(denoiser().to(half)).dtype == torch.float32
    assert priors.AzulaPrior(denoiser()).dtype == torch.float64
