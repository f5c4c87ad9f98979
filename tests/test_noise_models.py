"""Every noise model has the density that scipy gives it, and draws from it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

import invsolve as iv
from invsolve import costs, operators

SHAPE = (1, 4, 4)
A = operators.Denoising(SHAPE)


def image(n: int = 3, seed: int = 0) -> Tensor:
    return 0.05 + 0.9 * torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def laplace(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return stats.laplace.logpdf(y, x, 0.1)


def impulse(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.log(0.8 * stats.norm.pdf(y, x, 0.05) + 0.2 * stats.uniform.pdf(y, -0.5, 2.0) + 1e-300)


def speckle(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return stats.gamma.logpdf(y, 4.5, scale=x / 4.5)


def quantised(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    upper = np.where(y == 1, np.inf, (y + 0.1 - x) / 0.15)
    lower = np.where(y == 0, -np.inf, (y - 0.1 - x) / 0.15)
    return np.log(stats.norm.cdf(upper) - stats.norm.cdf(lower))


def poisson_gaussian(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    n = np.arange(400).reshape(-1, 1, 1, 1, 1)
    return np.log((stats.poisson.pmf(n, 30 * x + 1) * stats.norm.pdf(y, n / 30, 0.07)).sum(0))


def unknown_gaussian(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return stats.norm.logpdf(y, x, np.array([0.1, 0.2, 0.3]).reshape(3, 1, 1, 1))


THETA = {"sigma": torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64)}
MODELS: dict[str, tuple[Callable[[Tensor | None], iv.Likelihood], Callable[..., np.ndarray]]] = {
    "laplace": (lambda y: costs.LaplaceLikelihood(A, y, 0.1), laplace),
    "impulse": (lambda y: costs.ImpulseLikelihood(A, y, 0.05, 0.2, -0.5, 1.5), impulse),
    "speckle": (lambda y: costs.SpeckleLikelihood(A, y, 4.5), speckle),
    "quantised": (lambda y: costs.QuantisedLikelihood(A, y, 0.15, levels=6), quantised),
    "poisson-gaussian": (lambda y: costs.PoissonGaussianLikelihood(A, y, 30.0, 0.07, 1.0), poisson_gaussian),
    "unknown gaussian": (lambda y: costs.UnknownGaussianLikelihood(A, y), unknown_gaussian),
}


def theta_of(name: str, n: int = 3) -> dict[str, Tensor]:
    return {key: value[:n] for key, value in THETA.items()} if name == "unknown gaussian" else {}


@pytest.mark.parametrize("name", MODELS)
def test_energy_is_scipys_negative_log_density(name):
    build, density = MODELS[name]
    x, theta = image(), theta_of(name)
    y = build(None).simulate(image(3, seed=1), iv.Rng(0), theta)
    want = torch.from_numpy(-density(y.numpy(), x.numpy()).sum((1, 2, 3)))
    torch.testing.assert_close(build(y)(x, theta), want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_draws_follow_the_density(name):
    """Kolmogorov-Smirnov against the integrated density, false alarm rate 1e-4; by cells for the discrete one."""
    build, density = MODELS[name]
    n, at = 3000, 0.4
    theta = {"sigma": torch.full((n, 1), 0.1, dtype=torch.float64)} if name == "unknown gaussian" else {}
    y = build(None).simulate(torch.full((n, *SHAPE), at, dtype=torch.float64), iv.Rng(3), theta)[:, 0, 1, 2].numpy()
    if name == "quantised":
        levels = np.arange(6) / 5
        expected = n * np.exp(quantised(levels, np.full(6, at)))
        counts = np.array([(np.abs(y - level) < 1e-9).sum() for level in levels])
        assert counts.sum() == n
        assert stats.chisquare(counts, expected * n / expected.sum()).pvalue > 1e-4
        return
    grid = np.linspace(-2, 4, 20001)
    grid = grid[grid > 0] if name == "speckle" else grid
    ones = np.ones((1, 1, 1, len(grid)))
    law = (lambda y, x: stats.norm.logpdf(y, x, 0.1)) if name == "unknown gaussian" else density
    values = np.exp(law(grid * ones, at * ones)).ravel()
    cdf = integrate.cumulative_trapezoid(values, grid, initial=0)
    assert cdf[-1] == pytest.approx(1, abs=2e-3)
    assert stats.kstest(y, lambda v: np.interp(v, grid, cdf)).pvalue > 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_the_energy_and_items_stay_apart(name):
    build, _ = MODELS[name]
    x, theta = image(), theta_of(name)
    y = build(None).simulate(image(3, seed=1), iv.Rng(0), theta)
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(build(y)(leaf, theta).sum(), leaf)
    step, direction = 1e-6, torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    slope = (build(y)(x + step * direction, theta) - build(y)(x - step * direction, theta)) / (2 * step)
    torch.testing.assert_close((grad * direction).flatten(1).sum(1), slope, rtol=1e-5, atol=1e-5)
    rows = torch.tensor([2, 0])
    picked = build(y).select(rows)
    part = {key: value[rows] for key, value in theta.items()}
    torch.testing.assert_close(picked(x[rows], part), build(y)(x, theta)[rows])


def test_quantised_energies_stay_finite_far_from_the_measurement():
    y = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64).reshape(1, 1, 1, 3)
    likelihood = costs.QuantisedLikelihood(operators.Denoising((1, 1, 3)), y, 0.01, levels=3)
    x = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 3).requires_grad_()
    energy = likelihood(x)
    want = -(stats.norm.logcdf(-75) + stats.norm.logcdf(-25) + stats.norm.logcdf(-75))
    assert float(energy.detach()) == pytest.approx(want, rel=1e-6)
    (grad,) = torch.autograd.grad(energy.sum(), x)
    assert torch.isfinite(grad).all()


def test_speckle_per_item_scale_of_laplace_and_bad_settings():
    x, y = image(), image(3, seed=1)
    scales = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)
    together = costs.LaplaceLikelihood(A, y, scales)
    alone = costs.LaplaceLikelihood(A, y[2:], 0.4)
    torch.testing.assert_close(together.select(torch.tensor([2]))(x[2:]), alone(x[2:]))
    assert float(together(x)[2]) == pytest.approx(float(alone(x[2:])[0]))
    for build in (
        lambda: costs.LaplaceLikelihood(A, y, 0.0),
        lambda: costs.ImpulseLikelihood(A, y, 0.1, 1.0),
        lambda: costs.SpeckleLikelihood(A, y - 2.0, 1.0),
        lambda: costs.QuantisedLikelihood(A, y, 0.1, levels=3),
        lambda: costs.PoissonGaussianLikelihood(A, y, 10.0, 0.0),
        lambda: costs.UnknownGaussianLikelihood(A, y)(x),
    ):
        with pytest.raises(iv.InputError):
            build()


def test_an_unknown_noise_level_is_found_by_a_solver():
    """The minimum over sigma is the root mean square of the residual."""
    shape = (1, 16, 16)
    y = 0.5 + 0.08 * iv.Rng(0).normal(torch.empty(1, *shape, dtype=torch.float64))
    likelihood = costs.UnknownGaussianLikelihood(operators.Denoising(shape), y)
    x = torch.full_like(y, 0.5)
    raw = torch.tensor([[-1.0]], dtype=torch.float64, requires_grad=True)
    block = iv.Unknown((1,), "softplus")
    optimiser = torch.optim.LBFGS([raw], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        energy = likelihood(x, {"sigma": block.constrain(raw)}).sum()
        energy.backward()
        return energy

    optimiser.step(closure)
    assert float(block.constrain(raw).detach()) == pytest.approx(math.sqrt(float((y - x).square().mean())), rel=1e-4)


def test_holes_of_a_mask_are_no_entries():
    """Of the level of the noise, and of the misfit at which solvers stop."""
    keep = torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) < 0.25
    operator = operators.Inpainting((1, 16, 16), keep)
    x = torch.full((1, 1, 16, 16), 0.5, dtype=torch.float64)
    unknown = costs.UnknownGaussianLikelihood(operator, None)
    y = unknown.simulate(x, iv.Rng(0), {"sigma": torch.tensor([0.08], dtype=torch.float64)})
    unknown = costs.UnknownGaussianLikelihood(operator, y)
    level = float((y - x)[..., keep].square().mean().sqrt())
    energies = [float(unknown(x, {"sigma": torch.tensor([f * level])})) for f in (0.95, 1.0, 1.05)]
    assert min(energies) == energies[1]
    assert costs.GaussianLikelihood(operator, y, 0.08).measured.tolist() == [int(keep.sum())]
    noisy_holes = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))  # as some published runs have
    assert costs.GaussianLikelihood(operators.Denoising((1, 16, 16)), noisy_holes, 0.08).measured.tolist() == [256]
