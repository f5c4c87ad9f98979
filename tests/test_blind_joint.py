"""The kernel found together with the image: the expected fit, its covariance term, and what it gains."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from test_blind_deblur import blurred, correlation
from torch import Tensor

import invsolve as iv
from invsolve import costs, priors, solvers
from invsolve.io import read_image
from invsolve.operators import gaussian_kernel
from invsolve.tasks import observed_blur as blur
from invsolve.tasks.blind.edges import estimate_kernel
from invsolve.tasks.blind.fit import fit_kernel
from invsolve.tasks.blind.joint import _expected_fit, posterior_spectrum, refine_kernel
from invsolve.tasks.blind.spectrum import EXPONENT

SIDE, SIGMA = 192, 0.01
IMAGE = Path(str(files("invsolve.bench") / "images" / "coffee.png"))


def spectrum(scale: float) -> Tensor:
    """S = scale |f|^EXPONENT on the grid of the images."""
    down = torch.fft.fftfreq(SIDE, dtype=torch.float64)[:, None]
    radius = torch.hypot(down, torch.fft.rfftfreq(SIDE, dtype=torch.float64)[None])
    return scale * radius.clamp_min(1 / SIDE) ** EXPONENT


def gaussian_image(scale: float, seed: int) -> Tensor:
    white = torch.fft.rfft2(iv.Rng(seed).normal(torch.empty(1, SIDE, SIDE, dtype=torch.float64))[0])
    return torch.fft.irfft2(white * spectrum(scale).sqrt(), (SIDE, SIDE))


def wiener(scale: float, kernel: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """An image, its blurred and noisy version on a periodic grid, and the exact posterior mean."""
    x, s = gaussian_image(scale, seed), spectrum(scale)
    k = torch.fft.rfft2(kernel, (SIDE, SIDE))
    noise = SIGMA * iv.Rng(seed + 1000).normal(x[None])[0]
    y = torch.fft.irfft2(k * torch.fft.rfft2(x), (SIDE, SIDE)) + noise
    mean = torch.fft.irfft2(k.conj() * s * torch.fft.rfft2(y) / (k.abs() ** 2 * s + SIGMA**2), (SIDE, SIDE))
    return x, y, mean


def test_the_posterior_spectrum_is_that_of_the_wiener_estimates_error():
    kernel, errors, told = gaussian_kernel(1.5, 4), [], []
    for seed in range(24):
        x, _, mean = wiener(1e-4, kernel, seed)
        errors.append(torch.fft.rfft2(x - mean).abs().square() / SIDE**2)
        told.append(posterior_spectrum(x, kernel, SIGMA, (SIDE, SIDE)))
    measured, predicted = torch.stack(errors).mean(0), torch.stack(told).mean(0)
    ratio = (measured / predicted)[:, 2:-2]
    for rows in (slice(3, 20), slice(20, 60), slice(60, 97)):  # thousands of frequencies each: 1 within a few per cent
        assert float(ratio[rows].mean()) == pytest.approx(1, abs=0.1)


def test_the_covariance_term_keeps_the_kernel_where_it_is_right():
    kernel = gaussian_kernel(1.5, 4)
    right = kernel.shape[0] - 1
    with_term, without = [], []
    for seed in range(3):
        _, y, mean = wiener(1e-4, kernel, seed)
        seen = y[right:, right:]  # where the periodic blur is an ordinary one
        for share, found in ((1.0, with_term), (0.0, without)):
            k = kernel.clone()
            for _ in range(4):
                k = _expected_fit(mean, seen, k, SIGMA, share)
            found.append(float((k - kernel).norm() / kernel.norm()))
    assert max(with_term) < 0.1
    assert min(without) > 2 * max(with_term)


def test_the_fit_is_the_constrained_minimum():
    rng = np.random.default_rng(0)
    g, seen = torch.from_numpy(rng.normal(size=(2, 12, 11))), torch.from_numpy(rng.normal(size=(2, 10, 9)))
    windows = g.unfold(1, 3, 1).unfold(2, 3, 1).flip(-2, -1).reshape(-1, 9).numpy()
    target, penalty = seen.reshape(-1).numpy(), 20.0

    def objective(k: np.ndarray) -> float:
        return float(((windows @ k - target) ** 2).sum() + penalty * (k**2).sum())

    exact = minimize(
        objective, np.full(9, 1 / 9), method="SLSQP", bounds=[(0, None)] * 9, tol=1e-14,
        constraints={"type": "eq", "fun": lambda k: k.sum() - 1},
    ).x  # fmt: skip
    start = torch.full((3, 3), 1 / 9, dtype=torch.float64)
    found = fitted_to_the_end(g, seen, start, penalty)
    assert found.flatten().numpy() == pytest.approx(exact, abs=1e-5)
    grid = torch.full((12, 7), penalty, dtype=torch.float64)  # a flat spectrum is a number
    assert torch.allclose(fitted_to_the_end(g, seen, start, grid), found, atol=1e-8)


def fitted_to_the_end(g: Tensor, seen: Tensor, kernel: Tensor, penalty: float | Tensor) -> Tensor:
    for _ in range(2000):
        kernel = fit_kernel(g, seen, kernel, penalty, 1)
    return kernel


def test_the_prior_finds_a_better_kernel_than_edges_alone():
    image = read_image(IMAGE).pixels[:, 60:188, 60:188]
    kernel = gaussian_kernel(1.6, 5)
    y = blurred(image, kernel, 0.01)
    first = estimate_kernel(y, 11)
    found = refine_kernel(y, first, 0.01, priors.load("natural"))
    assert correlation(found, kernel) > correlation(first, kernel) + 0.02
    assert correlation(found, kernel) > 0.9
    assert float(found.sum()) == pytest.approx(1)
    at = torch.arange(11.0, dtype=torch.float64) - 5
    assert math.hypot(float(found.sum(1) @ at), float(found.sum(0) @ at)) < 0.75


def test_a_data_step_that_ends_early_leaves_the_priors_image(monkeypatch):
    monkeypatch.setattr(blur, "MAX_ITER", 0)
    operator = blur.ObservedBlur((3, 40, 40), gaussian_kernel(1.5, 4))
    scene = iv.Rng(0).normal(torch.empty(1, *operator.in_shape, dtype=torch.float64)).mul(0.1).add(0.5)
    prior = priors.GaussianPrior(torch.full(operator.in_shape, 0.5, dtype=torch.float64), 1e6)  # denoises nothing
    problem = iv.Problem(prior, costs.GaussianLikelihood(operator, operator(scene), 0.01))
    solver = solvers.PnPHQS(n_steps=1, lam=0.2, sigma_start=0.1, sigma_end=0.1)
    state = replace(solver.init(problem, 1, iv.Rng(0)), x=scene)
    state, _ = solver.step(problem, state, iv.Rng(0))
    assert torch.allclose(state.x, scene, atol=1e-4)
