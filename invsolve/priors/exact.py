"""Priors with exact denoisers and exact posteriors: Gaussians, their mixtures and point masses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError, as_tensor
from invsolve.core.cost import Likelihood, linear_gaussian
from invsolve.core.operator import LinearOperator
from invsolve.core.prior import Prior
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import DDPMSchedule, Schedule

__all__ = ["GaussianPrior", "MixturePosterior", "MixturePrior"]


@dataclass(frozen=True, eq=False)
class MixturePosterior:
    """p(x | y) of B measurements under a mixture of K Gaussians, in [0, 1] units; d = prod(shape).

    Attributes:
        weights: component weights [B, K].
        means: component means [B, K, d].
        covs: component covariances [B, K, d, d] (expanded, not copied, if they do not depend on the item).
        shape: shape of one image.
    """

    weights: Tensor
    means: Tensor
    covs: Tensor
    shape: tuple[int, ...]

    @property
    def mean(self) -> Tensor:
        """E[x | y], [B, *shape]."""
        return torch.einsum("bk,bkd->bd", self.weights, self.means).unflatten(1, self.shape)

    @property
    def cov(self) -> Tensor:
        """Cov[x | y], [B, d, d]."""
        centred = self.means - self.mean.flatten(1)[:, None]
        within = torch.einsum("bk,bkde->bde", self.weights, self.covs)
        return within + torch.einsum("bk,bkd,bke->bde", self.weights, centred, centred)

    def sample(self, n: int, rng: NoiseSource) -> Tensor:
        """Draw n exact samples per measurement, [B, n, *shape]; row b * n + i of the noise belongs to sample (b, i)."""
        b, k, d = self.means.shape
        u = rng.uniform(self.means.new_empty(b * n, 1)).view(b, n)
        pick = torch.searchsorted(self.weights.cumsum(1), u).clamp_max(k - 1)
        z = rng.normal(self.means.new_empty(b * n, d)).view(b, n, d)
        out = torch.empty_like(z)
        for item in range(b):
            for component in pick[item].unique().tolist():
                values, vectors = torch.linalg.eigh(self.covs[item, component])
                chosen = pick[item] == component
                root = vectors * values.clamp_min(0).sqrt()
                out[item, chosen] = self.means[item, component] + z[item, chosen] @ root.T
        return out.unflatten(2, self.shape)


class MixturePrior(Prior):
    """A Gaussian mixture p(x0) = sum_k w_k N(m_k, C_k), in float64.

    With v_k = alpha^2 C_k + sigma^2 I and r_k the responsibilities of N(alpha m_k, v_k) at x_t,
    E[x0 | x_t] = sum_k r_k [ m_k + alpha C_k v_k^-1 (x_t - alpha m_k) ].

    Args:
        means: [K, *shape], or K tensors.
        covs: [K, d, d], or [K, d] (diagonals), or [K] (isotropic variances; 0 is a point mass); or a list of K.
        weights: [K], positive; they are normalised. Equal weights if None.
        schedule: the DDPM table if None.
        value_range: values of black and white in the prior's space; (0, 1) is the range of the images themselves.

    Raises:
        InputError: shapes that do not match; covariances with negative eigenvalues.
    """

    bounded = False

    def __init__(
        self,
        means: Tensor | Sequence[Tensor],
        covs: Tensor | Sequence[Tensor | float],
        weights: Tensor | Sequence[float] | None = None,
        schedule: Schedule | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        means, covs = _stacked(means), _stacked(covs)
        self.schedule = schedule or DDPMSchedule()
        self.shape = self._shape = tuple(means.shape[1:])
        self.value_range = value_range
        k, d = len(means), prod(self.shape)
        self.means = means.double().reshape(k, d)
        weights = torch.ones(k) if weights is None else _stacked(weights)
        if weights.shape != (k,) or not bool((weights > 0).all()):
            raise InputError(f"weights must be {k} positive numbers, got {weights}")
        self.weights = (weights.double() / weights.double().sum()).to(means.device)
        self._spectrum, self._basis = _spectral(covs.double(), k, d)

    @property
    def device(self) -> torch.device:
        return self.means.device

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    @property
    def covs(self) -> Tensor:
        """Covariances [K, d, d]."""
        if self._basis is None:
            return torch.diag_embed(self._spectrum)
        return self._basis * self._spectrum[:, None] @ self._basis.mT

    def _components(self, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates z [K, N, d] of x - alpha m_k, their variances [K, 1, d] and weighted log densities [K, N]."""
        z = x.flatten(1) - alpha * self.means[:, None]
        z = z if self._basis is None else z @ self._basis
        variance = (alpha**2 * self._spectrum + sigma**2)[:, None]
        log = -0.5 * (z.square() / variance + variance.log() + math.log(2 * math.pi)).sum(2)
        return z, variance, log + self.weights.log()[:, None]

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        alpha, sigma = self.schedule(t)
        z, variance, log = self._components(x_t, alpha, sigma)
        shift = alpha * self._spectrum[:, None] / variance * z
        shift = shift if self._basis is None else shift @ self._basis.mT
        estimates = self.means[:, None] + shift
        return (log.softmax(0)[..., None] * estimates).sum(0).view_as(x_t)

    def log_prob(self, x: Tensor, t: float = 0.0) -> Tensor:
        """Log density log p_t(x), [N]."""
        return self._components(x, *self.schedule(t))[2].logsumexp(0)

    def sample(self, n: int, rng: NoiseSource) -> Tensor:
        """Draw n exact samples, [n, *shape], in the prior's space."""
        u = rng.uniform(self.means.new_empty(n, 1))[:, 0]
        pick = torch.searchsorted(self.weights.cumsum(0), u).clamp_max(len(self.means) - 1)
        z = rng.normal(self.means.new_empty(n, self.means.shape[1])) * self._spectrum[pick].sqrt()
        if self._basis is not None:
            z = (self._basis[pick] @ z[..., None])[..., 0]
        return (self.means[pick] + z).unflatten(1, self._shape)

    def posterior(self, likelihood: Likelihood) -> MixturePosterior:
        """The posterior p(x | y) in closed form, in [0, 1] units.

        Raises:
            CapabilityError: the operator is not linear or the noise is not Gaussian.
        """
        parts = linear_gaussian(likelihood)
        if parts is None:
            raise CapabilityError("the exact posterior needs a linear operator and Gaussian noise")
        operator, y, sigma = parts
        low, width = self.value_range[0], self.value_range[1] - self.value_range[0]
        means, covs = (self.means - low) / width, self.covs / width**2
        sigmas = torch.as_tensor(sigma, dtype=torch.float64).expand(len(y))
        y = (torch.view_as_real(y) if y.is_complex() else y).double().flatten(1)
        same = bool((sigmas == sigmas[0]).all()) and operator.select(torch.tensor([0])) is operator
        pieces = []
        for b in range(1 if same else len(y)):
            part = operator.select(torch.tensor([b]))
            rows = y if same else y[b : b + 1]
            pieces.append(_condition(means, covs, self.weights, _dense(part), rows, float(sigmas[b])))
        weights, post, cov = (torch.cat(values) for values in zip(*pieces, strict=True))
        return MixturePosterior(weights, post, cov.expand(len(y), -1, -1, -1), self._shape)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.means)} components of shape {list(self._shape)})"


class GaussianPrior(MixturePrior):
    """A Gaussian p(x0) = N(mean, cov), in float64: a mixture with one component.

    Args:
        mean: [*shape].
        cov: [d, d], or [d] (a diagonal), or a number (isotropic variance).
        schedule: the DDPM table if None.
        value_range: see `MixturePrior`.
    """

    def __init__(
        self,
        mean: Tensor,
        cov: Tensor | float,
        schedule: Schedule | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        mean = as_tensor(mean, "the mean")
        covs = as_tensor(cov, "the covariance").to(mean.device, torch.float64)[None]
        super().__init__(mean[None], covs, None, schedule, value_range)


def _stacked(values: Tensor | Sequence[Any]) -> Tensor:
    if isinstance(values, Tensor):
        return values
    return torch.stack([as_tensor(value, "a mean or a covariance") for value in values])


def _spectral(covs: Tensor, k: int, d: int) -> tuple[Tensor, Tensor | None]:
    """Eigenvalues [K, d] and eigenvectors [K, d, d] (None for diagonal covariances)."""
    if tuple(covs.shape) == (k,):
        spectrum, basis = covs[:, None].expand(k, d), None
    elif tuple(covs.shape) == (k, d):
        spectrum, basis = covs, None
    elif tuple(covs.shape) == (k, d, d):
        spectrum, basis = torch.linalg.eigh(covs)
    else:
        raise InputError(f"covariances of shape {[k, d, d]}, {[k, d]} or {[k]} expected, got {list(covs.shape)}")
    floor = -1e-9 * max(float(spectrum.abs().max()), 1e-300)
    if not bool((spectrum >= floor).all()):
        raise InputError("covariances must be positive semi-definite, got a negative eigenvalue")
    return spectrum.clamp_min(0.0), basis


def _dense(operator: LinearOperator) -> Tensor:
    """The matrix [m, d] of the operator in float64, computed column by column."""
    d = prod(operator.in_shape)
    columns = operator(torch.eye(d, dtype=torch.float64).view(d, *operator.in_shape))
    if columns.is_complex():
        columns = torch.view_as_real(columns)
    return columns.reshape(d, -1).T


def _condition(
    means: Tensor, covs: Tensor, weights: Tensor, a: Tensor, y: Tensor, sigma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights [B, K], means [B, K, d] and covariances [1, K, d, d] given y = A x + sigma n, y [B, m]."""
    logs, posts, posterior_covs = [], [], []
    for mean, cov, weight in zip(means, covs, weights, strict=True):
        cross = cov @ a.T
        evidence = a @ cross + sigma**2 * torch.eye(len(a), dtype=a.dtype)
        factor = torch.linalg.cholesky(evidence)
        residual = y - a @ mean
        gain = torch.cholesky_solve(cross.T, factor)
        white = torch.linalg.solve_triangular(factor, residual.T, upper=False)
        logs.append(weight.log() - 0.5 * white.square().sum(0) - factor.diagonal().log().sum())
        posts.append(mean + residual @ gain)
        reduced = cov - cross @ gain
        posterior_covs.append((reduced + reduced.T) / 2)
    return torch.stack(logs, 1).softmax(1), torch.stack(posts, 1), torch.stack(posterior_covs)[None]
