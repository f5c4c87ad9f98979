"""Problems whose posterior is known exactly: Gaussian and mixture priors, linear operators, Gaussian noise.

The priors have the range [-1, 1] and the DDPM table as schedule, as usual for networks, so that solvers run with their
published settings. Noise levels are standard deviations in [0, 1] units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.calibration import laws
from invsolve import Problem, Rng, costs, operators, priors
from invsolve.core.operator import EMPTY, LinearOperator, Params
from invsolve.diagnostics import Coordinates, PosteriorReference

__all__ = ["PROBLEMS", "BenchmarkProblem", "Case"]


class SmallSuperResolution(operators.SuperResolution):
    """The same super-resolution as two products with the matrix of an axis, M x M^T: much faster on small images."""

    def __init__(self, in_shape: tuple[int, ...], factor: int) -> None:
        super().__init__(in_shape, factor)
        n = self.in_shape[-1]
        if self.in_shape[-2] != n:
            raise ValueError(f"square images expected, got {list(in_shape)}")
        stripes = torch.eye(n, dtype=torch.float64)[:, None, :, None].expand(n, self.in_shape[0], n, n)
        self.constants = self.constants.replaced(axis=super().forward(stripes)[:, 0, :, 0].T.contiguous())

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        axis = self.constants.get("axis", x)
        return ((x @ axis.T).mT @ axis.T).mT

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        axis = self.constants.get("axis", y)
        return ((y @ axis).mT @ axis).mT


@dataclass(frozen=True, eq=False)
class Case:
    """A built problem: the input of solvers, and the reference that they are compared with."""

    problem: Problem
    reference: PosteriorReference
    truth: Tensor
    samples: int


@dataclass(frozen=True)
class BenchmarkProblem:
    """The definition of a problem.

    Attributes:
        name: name in files and rows.
        title: one line for the table.
        prior: builds the prior.
        operator: builds A for an image shape.
        sigma: noise level, in [0, 1] units.
        items: number of true images, B.
        samples: samples for each item, S.
        seed: seed of the true images and of their noise.
    """

    name: str
    title: str
    prior: Callable[[], priors.MixturePrior]
    operator: Callable[[tuple[int, ...]], LinearOperator]
    sigma: float
    items: int = 2
    samples: int = 500
    seed: int = 11

    def build(self, samples: int | None = None) -> Case:
        """The problem with simulated measurements and its exact posterior."""
        prior = self.prior()
        assert prior.shape is not None
        operator = self.operator(prior.shape)
        truth = (prior.sample(self.items, Rng(self.seed)) - laws.RANGE[0]) / (laws.RANGE[1] - laws.RANGE[0])
        y = costs.GaussianLikelihood(operator, None, self.sigma).simulate(truth, Rng(self.seed + 1))
        likelihood = costs.GaussianLikelihood(operator, y, self.sigma)
        posterior = prior.posterior(likelihood)
        coordinates = Coordinates.of_reduction(laws.total_cov(prior), posterior.cov)
        n = samples or self.samples
        reference = PosteriorReference.build(posterior, coordinates, draws=4 * n, rng=Rng(13))
        return Case(Problem(prior, likelihood), reference, truth, n)

    @property
    def dimension(self) -> int:
        """Dimension of the image, d."""
        shape = self.prior().shape
        assert shape is not None
        return math.prod(shape)


def _first_pixel(shape: tuple[int, ...]) -> LinearOperator:
    return operators.Inpainting(shape, torch.tensor([[1.0, 0.0]]))


def _box(shape: tuple[int, ...]) -> LinearOperator:
    return operators.Inpainting.box(shape, 4, 4, 8, 8)


PROBLEMS = {
    p.name: p
    for p in (
        BenchmarkProblem(
            "pair-inpaint", "2-d Gaussian, one pixel seen, sigma 0.1", laws.pair, _first_pixel, 0.1, 2, 1000
        ),
        BenchmarkProblem(
            "bimodal-inpaint", "2-d mixture of 2, one pixel seen, sigma 0.05", laws.bimodal, _first_pixel, 0.05, 2, 1000
        ),
        BenchmarkProblem(
            "trimodal-denoise",
            "2-d mixture of 3, denoising, sigma 0.3",
            laws.trimodal,
            operators.Denoising,
            0.3,
            2,
            1000,
            16,
        ),
        BenchmarkProblem(
            "small-superres",
            "3x4x4 Gaussian, super-resolution x2, sigma 0.05",
            laws.small,
            lambda shape: SmallSuperResolution(shape, 2),
            0.05,
        ),
        BenchmarkProblem(
            "small-mixture-inpaint",
            "3x4x4 mixture of 2, half the pixels, sigma 0.2",
            laws.small_mixture,
            laws.scattered,
            0.2,
        ),
        BenchmarkProblem(
            "medium-deblur",
            "1x8x8 1/f Gaussian, Gaussian blur 1.0, sigma 0.02",
            laws.medium,
            lambda shape: operators.GaussianBlur(shape, 1.0),
            0.02,
        ),
        BenchmarkProblem(
            "medium-denoise", "1x8x8 1/f Gaussian, denoising, sigma 0.2", laws.medium, operators.Denoising, 0.2
        ),
        BenchmarkProblem(
            "image-inpaint",
            "3x16x16 1/f Gaussian, half the pixels, sigma 0.05",
            laws.image,
            laws.scattered,
            0.05,
            1,
            128,
        ),
        BenchmarkProblem(
            "image-superres",
            "3x16x16 1/f Gaussian, super-resolution x4, sigma 0.02",
            laws.image,
            lambda shape: SmallSuperResolution(shape, 4),
            0.02,
            1,
            128,
        ),
        BenchmarkProblem(
            "image-deblur",
            "3x16x16 1/f Gaussian, Gaussian blur 1.5, sigma 0.02",
            laws.image,
            lambda shape: operators.GaussianBlur(shape, 1.5),
            0.02,
            1,
            128,
        ),
        BenchmarkProblem(
            "images-inpaint", "3x16x16 1/f mixture of 2, a box missing, sigma 0.1", laws.images, _box, 0.1, 1, 128
        ),
    )
}
