"""Exact posteriors in coordinates in which all directions have the same scale.

Calibration depends on the direction: the measurement determines some directions well, and others not at all. Here an
image x is mapped to z = W (x - E[x | y]), scaled so that each z_i has standard deviation 1 under the exact posterior. A
Gaussian posterior is then exactly a standard normal distribution; a mixture has mean 0 and known one-dimensional
distributions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from invsolve.core.checks import InputError, check_shape
from invsolve.core.operator import LinearOperator
from invsolve.core.rng import NoiseSource, Rng
from invsolve.priors.exact import MixturePosterior

__all__ = ["Coordinates", "PosteriorReference"]


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Directions of an image space of d dimensions, and which of them the measurement observes.

    Attributes:
        matrix: [B, k, d]; z = matrix (x - m) has unit posterior variances. B is 1 if all items share it.
        observed: [B, k], bool.
    """

    matrix: Tensor
    observed: Tensor

    @classmethod
    def of_reduction(cls, prior_cov: Tensor, posterior_cov: Tensor, threshold: float = 0.5) -> Coordinates:
        """The directions that diagonalise prior and posterior covariance together, the most reduced ones first.

        If W C_prior W^T = I and W C_post W^T = diag(r), a direction is observed if the measurement reduced its prior
        variance by at least half, r <= `threshold`. Noise, operator and prior all count: a pixel that was not measured
        but follows from its neighbours is observed, and a pixel that was measured with much noise is not.

        Args:
            prior_cov: [d, d], positive definite.
            posterior_cov: [d, d] or [B, d, d].
            threshold: upper limit of r.
        """
        factor = torch.linalg.cholesky(prior_cov)
        posterior_cov = posterior_cov if posterior_cov.ndim == 3 else posterior_cov[None]
        half = torch.linalg.solve_triangular(factor, posterior_cov, upper=False)
        whole = torch.linalg.solve_triangular(factor, half.mT, upper=False)
        ratio, basis = torch.linalg.eigh((whole + whole.mT) / 2)
        ratio = ratio.clamp_min(1e-12)
        matrix = torch.linalg.solve_triangular(factor.mT, basis, upper=True).mT / ratio.sqrt()[..., None]
        return cls(matrix, ratio <= threshold)

    @classmethod
    def of_operator(cls, operator: LinearOperator, posterior_cov: Tensor, cutoff: float = 1e-6) -> Coordinates:
        """The eigenvectors of A^T A; those with a singular value above `cutoff` times the largest one are observed.

        Neither noise nor prior counts, although correlated pixels carry information along null-space directions, too.
        Under a Gaussian posterior these coordinates are normal but not independent.

        Args:
            operator: A.
            posterior_cov: [d, d] or [B, d, d].
            cutoff: relative limit of singular values.
        """
        d = math.prod(operator.in_shape)
        columns = operator.normal(torch.eye(d, dtype=torch.float64).view(d, *operator.in_shape)).flatten(1)
        values, basis = torch.linalg.eigh((columns + columns.T) / 2)
        posterior_cov = posterior_cov if posterior_cov.ndim == 3 else posterior_cov[None]
        spread = (basis.T @ posterior_cov @ basis).diagonal(dim1=1, dim2=2).clamp_min(1e-24).sqrt()
        observed = values > cutoff**2 * values.max()
        return cls(basis.T / spread[..., None], observed.expand(len(posterior_cov), -1))


@dataclass(frozen=True, eq=False)
class PosteriorReference:
    """The exact posteriors of B items, for comparison with samples of any solver.

    Attributes:
        posterior: the posteriors in image space.
        coordinates: z = W (x - m).
        means: means of the components in z, [B, K, k].
        covs: covariances of the components in z, [B, K, k, k].
        draws: exact samples in z, [B, M, k], for two-sample statistics.
    """

    posterior: MixturePosterior
    coordinates: Coordinates
    means: Tensor
    covs: Tensor
    draws: Tensor

    @classmethod
    def build(
        cls,
        posterior: MixturePosterior,
        coordinates: Coordinates | None = None,
        *,
        prior_cov: Tensor | None = None,
        draws: int = 2000,
        rng: NoiseSource | None = None,
    ) -> PosteriorReference:
        """Build the reference of an exact posterior.

        Args:
            posterior: the posteriors of B items.
            coordinates: the coordinates; if None, those of `Coordinates.of_reduction`.
            prior_cov: [d, d], needed for `Coordinates.of_reduction`. If both are None, W is the inverse root of the
                posterior covariance and every direction counts as observed.
            draws: M, the number of exact samples kept for each item.
            rng: noise source of the exact samples.
        """
        if coordinates is None and prior_cov is not None:
            coordinates = Coordinates.of_reduction(prior_cov, posterior.cov)
        if coordinates is None:
            values, basis = torch.linalg.eigh(posterior.cov)
            matrix = basis.mT / values.clamp_min(1e-24).sqrt()[..., None]
            coordinates = Coordinates(matrix, torch.ones(matrix.shape[:2], dtype=torch.bool))
        w = coordinates.matrix
        centred = posterior.means - posterior.mean.flatten(1)[:, None]
        reference = cls(
            posterior,
            coordinates,
            centred @ w.mT,
            w[:, None] @ posterior.covs @ w.mT[:, None],
            w.new_empty(0),
        )
        return replace(reference, draws=reference.draw(draws, rng or Rng(seed=0)))

    @property
    def items(self) -> int:
        """The number of items, B."""
        return len(self.posterior.means)

    @property
    def modes(self) -> int:
        """The number of components, K."""
        return self.posterior.weights.shape[1]

    def draw(self, n: int, rng: NoiseSource) -> Tensor:
        """Draw n exact samples in z, [B, n, k]."""
        return self.to_z(self.posterior.sample(n, rng).double())

    def to_z(self, samples: Tensor) -> Tensor:
        """Map images [B, S, *shape] to z [B, S, k].

        Raises:
            InputError: the number of items is not that of the posterior.
        """
        if len(samples) != self.items:
            raise InputError(f"samples of {self.items} items expected, got {list(samples.shape)}")
        check_shape(samples.flatten(0, 1), self.posterior.shape, "samples")
        centred = samples.double().flatten(2) - self.posterior.mean.flatten(1)[:, None]
        return centred @ self.coordinates.matrix.mT

    def marginal_cdf(self, z: Tensor) -> Tensor:
        """P(z_i <= z) under the exact posterior, [B, n, k] -> [B, n, k]."""
        spread = self.covs.diagonal(dim1=2, dim2=3).clamp_min(1e-24).sqrt()
        parts = torch.special.ndtr((z[:, None] - self.means[:, :, None]) / spread[:, :, None])
        return (self.posterior.weights[..., None, None] * parts).sum(1)

    def log_components(self, z: Tensor, item: int) -> tuple[Tensor, Tensor]:
        """log(w_k N_k(z)) [n, K] and |L_k^-1 (z - m_k)|^2 [n, K] of one item, z [n, k]."""
        logs, squares = [], []
        for weight, mean, cov in zip(self.posterior.weights[item], self.means[item], self._covs(item), strict=True):
            jitter = 1e-9 * cov.diagonal().mean() * torch.eye(len(cov), dtype=cov.dtype)
            factor = torch.linalg.cholesky(cov + jitter)
            square = torch.linalg.solve_triangular(factor, (z - mean).T, upper=False).square().sum(0)
            squares.append(square)
            logs.append(weight.clamp_min(1e-300).log() - 0.5 * square - factor.diagonal().log().sum())
        return torch.stack(logs, 1), torch.stack(squares, 1)

    def _covs(self, item: int) -> Tensor:
        return self.covs[item if len(self.covs) > 1 else 0]
