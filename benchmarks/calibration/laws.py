"""The priors of the calibration problems, with the range [-1, 1] and the DDPM table, as usual for networks."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from invsolve import Rng, operators, priors
from invsolve.core.operator import LinearOperator
from invsolve.core.rng import NoiseSource

__all__ = [
    "RANGE",
    "ImageMixture",
    "bimodal",
    "image",
    "images",
    "medium",
    "natural_spectrum",
    "pair",
    "scattered",
    "small",
    "small_mixture",
    "total_cov",
    "trimodal",
]

RANGE = (-1.0, 1.0)


class ImageMixture(priors.MixturePrior):
    """A mixture of stationary image laws with common axes: colour axes times cosine frequencies.

    The denoiser costs two small transforms, instead of the two products with a d x d matrix for a dense covariance.

    Args:
        means: [K, 3, n, n] in the prior's range.
        spectra: variances [K, 3, n, n] along (colour axis, vertical frequency, horizontal frequency).
        weights: [K]; equal if None.
    """

    def __init__(self, means: Tensor, spectra: Tensor, weights: Tensor | None = None) -> None:
        super().__init__(means, spectra.flatten(1), weights, value_range=RANGE)
        self._cosines = _cosines(means.shape[-1])
        self._colours = _colours()
        self._centres = self._rotate(means.double())

    def _rotate(self, x: Tensor) -> Tensor:
        """Images [N, 3, n, n] -> coordinates [N, d]."""
        c = self._cosines
        return ((x @ c.T).mT @ c.T).mT.flatten(2).mT.matmul(self._colours).mT.flatten(1)

    def _unrotate(self, z: Tensor) -> Tensor:
        c = self._cosines
        x = z.unflatten(1, (3, -1)).mT.matmul(self._colours.T).mT.unflatten(2, (len(c), len(c)))
        return ((x @ c).mT @ c).mT

    @property
    def covs(self) -> Tensor:
        d = self._centres.shape[1]
        basis = self._rotate(torch.eye(d, dtype=torch.float64).view(d, *self._shape))
        return basis * self._spectrum[:, None] @ basis.T

    def _components(self, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
        z = self._rotate(x) - alpha * self._centres[:, None]
        variance = (alpha**2 * self._spectrum + sigma**2)[:, None]
        log = -0.5 * (z.square() / variance).sum(2) - 0.5 * (variance.log() + math.log(2 * math.pi)).sum(2)
        return z, variance, log + self.weights.log()[:, None]

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        alpha, sigma = self.schedule(t)
        if len(self.means) == 1:
            gain = alpha * self._spectrum[0] / (alpha**2 * self._spectrum[0] + sigma**2)
            return self._unrotate(self._rotate(x_t) * gain + (1 - alpha * gain) * self._centres[0])
        z, variance, log = self._components(x_t, alpha, sigma)
        estimates = self._centres[:, None] + alpha * self._spectrum[:, None] / variance * z
        return self._unrotate((log.softmax(0)[..., None] * estimates).sum(0))

    def sample(self, n: int, rng: NoiseSource) -> Tensor:
        u = rng.uniform(self.means.new_empty(n, 1))[:, 0]
        pick = torch.searchsorted(self.weights.cumsum(0), u).clamp_max(len(self.means) - 1)
        z = rng.normal(self._centres.new_empty(n, self._centres.shape[1])) * self._spectrum[pick].sqrt()
        return self._unrotate(self._centres[pick] + z)


@lru_cache
def _cosines(n: int) -> Tensor:
    """The orthonormal DCT-II, [n, n], one frequency per row."""
    k, j = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi * k * (2 * j + 1) / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


@lru_cache
def _colours() -> Tensor:
    """Opponent colours (sum, red - blue, green against both), orthonormal columns [3, 3]."""
    axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]], dtype=torch.float64)
    return (axes / torch.linalg.vector_norm(axes, dim=1, keepdim=True)).T.contiguous()


def natural_spectrum(n: int, std: float = 0.5, chroma: float = 0.4, grain: float = 0.06) -> Tensor:
    """Variances of natural images: amplitude 1 / f, colour differences weaker than brightness, and grain, [3, n, n].

    Field 1987, "Relations between the statistics of natural images and the response properties of cortical cells".

    Args:
        n: side of the image.
        std: standard deviation of brightness, root mean square over the pixels, in the prior's range.
        chroma: amplitude of both colour axes relative to brightness.
        grain: standard deviation of independent pixel noise that belongs to the image.
    """
    f = torch.arange(n, dtype=torch.float64)
    power = 1 / (1 + f[:, None].square() + f.square())
    power = power * (n * n * std**2 / power.sum())
    return torch.stack([power, chroma**2 * power, chroma**2 * power]) + grain**2


def image() -> priors.MixturePrior:
    return ImageMixture(torch.zeros(1, 3, 16, 16, dtype=torch.float64), natural_spectrum(16)[None])


def images() -> priors.MixturePrior:
    """The same texture with a bright or a dark disc in the middle; around a missing box, little of it is visible."""
    side = torch.arange(16, dtype=torch.float64) - 7.5
    disc = torch.sigmoid(2 * (3.5 - torch.sqrt(side[:, None].square() + side.square())))
    colour = torch.tensor([0.6, 0.5, 0.3], dtype=torch.float64)[:, None, None]
    spectrum = natural_spectrum(16, 0.3)
    return ImageMixture(
        torch.stack([colour * disc, -colour * disc]), torch.stack([spectrum] * 2), torch.tensor([0.6, 0.4])
    )


def _random_cov(d: int, low: float, high: float, seed: int) -> Tensor:
    """A covariance with standard deviations log-spaced from `low` to `high` along random axes."""
    q = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]
    return q * torch.logspace(math.log10(low), math.log10(high), d, dtype=torch.float64).square() @ q.T


def pair() -> priors.MixturePrior:
    cov = 0.16 * torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    return priors.GaussianPrior(torch.tensor([[[0.2, -0.1]]], dtype=torch.float64), cov, value_range=RANGE)


def bimodal() -> priors.MixturePrior:
    """Two modes that differ little in the first coordinate and clearly in the second."""
    means = torch.tensor([[[[-0.05, 0.7]]], [[[0.05, -0.7]]]], dtype=torch.float64)
    covs = torch.stack([_random_cov(2, 0.15, 0.3, 0), _random_cov(2, 0.1, 0.25, 1)])
    return priors.MixturePrior(means, covs, torch.tensor([0.35, 0.65]), value_range=RANGE)


def trimodal() -> priors.MixturePrior:
    means = torch.tensor([[[[-0.8, -0.4]]], [[[0.0, 0.8]]], [[[0.8, -0.4]]]], dtype=torch.float64)
    covs = torch.stack([_random_cov(2, 0.15, 0.3, seed) for seed in range(3)])
    return priors.MixturePrior(means, covs, torch.tensor([0.5, 0.3, 0.2]), value_range=RANGE)


def small() -> priors.MixturePrior:
    mean = torch.linspace(-0.4, 0.4, 48, dtype=torch.float64).view(3, 4, 4)
    return priors.GaussianPrior(mean, _random_cov(48, 0.15, 0.8, 2), value_range=RANGE)


def small_mixture() -> priors.MixturePrior:
    """Two modes that differ clearly in the pixels that `scattered` leaves out, and a little in the others."""
    unseen = 1.0 - scattered((3, 4, 4))(torch.ones(1, 3, 4, 4, dtype=torch.float64))[0]
    shift = 0.22 * unseen + 0.02 * (1 - unseen)
    cov = _random_cov(48, 0.15, 0.5, 4)
    return priors.MixturePrior(
        torch.stack([shift, -shift]), torch.stack([cov, cov]), torch.tensor([0.6, 0.4]), value_range=RANGE
    )


def medium() -> priors.MixturePrior:
    cosines = _cosines(8)
    basis = torch.einsum("ai,bj->ijab", cosines, cosines).reshape(64, 64)
    cov = basis * natural_spectrum(8)[0].flatten() @ basis.T
    return priors.GaussianPrior(torch.zeros(1, 8, 8, dtype=torch.float64), cov, value_range=RANGE)


def scattered(shape: tuple[int, ...]) -> LinearOperator:
    return operators.Inpainting.random(shape, 0.5, rng=Rng(5))


def total_cov(prior: priors.MixturePrior) -> Tensor:
    """The prior's covariance in [0, 1] units, [d, d]."""
    width = RANGE[1] - RANGE[0]
    centred = prior.means - prior.weights @ prior.means
    within = torch.einsum("k,kde->de", prior.weights, prior.covs)
    return (within + torch.einsum("k,kd,ke->de", prior.weights, centred, centred)) / width**2
