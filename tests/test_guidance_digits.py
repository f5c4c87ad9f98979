"""The digits that travel in the package."""

from __future__ import annotations

import pytest
import torch

import invsolve as iv
from invsolve import priors, solvers
from invsolve.priors.guidance.combinations import classifier_free


def test_the_digits_prior_makes_digits_of_its_classes() -> None:
    prior = priors.load("digits")
    labels = torch.arange(10)
    out = iv.solve(iv.Problem(prior.given(label=labels)), solvers.DDIM(n_steps=12), samples=2)
    assert out.samples.shape == (10, 2, 1, 16, 16)
    assert out.ok
    ink = out.samples.clamp(0, 1).mean((-3, -2, -1))
    assert 0.02 < float(ink.mean()) < 0.35
    assert float(ink[1].mean()) < float(ink[0].mean())  # a one has less ink than a zero
    assert float(out.samples[..., 0, :].abs().mean()) < 0.1  # and a frame of background


def test_its_labels_and_guidance_are_bound_explicitly() -> None:
    prior = priors.load("digits")
    assert prior.shape == (1, 16, 16)
    x = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prior.denoise(x, 0.5), prior.given(label=10).denoise(x, 0.5))
    guided = classifier_free(prior, 2.0, condition={"label": 7}, null={"label": 10}).predict(x, 0.5).x0
    seven, none = prior.given(label=7).denoise(x, 0.5), prior.denoise(x, 0.5)
    assert torch.allclose(guided, none + 2 * (seven - none), atol=1e-4)
    with pytest.raises(iv.InputError, match="0 to 9"):
        prior.given(label=11)
