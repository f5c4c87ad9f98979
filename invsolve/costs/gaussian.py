"""Gaussian noise of known and of unknown standard deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.core.checks import InputError, check_positive
from invsolve.core.cost import Likelihood, broadcast_sigma
from invsolve.core.operator import EMPTY, Operator, Params
from invsolve.core.rng import NoiseSource, normal_like
from invsolve.core.settings import check_settings

__all__ = ["GaussianLikelihood", "UnknownGaussianLikelihood", "check_level", "gaussian_energy"]


@dataclass(frozen=True, eq=False)
class GaussianLikelihood(Likelihood):
    """y = A(x) + sigma n: -log p(y | x) = |y - A(x)|^2 / (2 sigma^2) + m log(sigma sqrt(2 pi)), m entries in y.

    Complex measurements have noise of standard deviation sigma in each of the real and imaginary parts.

    Args:
        operator: A.
        y: measurements [B, *operator.out_shape]; None for a likelihood that only simulates.
        sigma: standard deviation in [0, 1] image units, above 0: one number, or one for each item [B].

    Raises:
        InputError: sigma is not above 0, or y is not finite or of another shape.
    """

    operator: Operator
    y: Tensor | None
    sigma: float | Tensor

    per_item = ("sigma",)

    def __post_init__(self) -> None:
        check_level(self.sigma, "sigma (use a small one for a measurement almost free of noise)")
        super().__post_init__()

    @property
    def gaussian_sigma(self) -> float | Tensor:
        return self.sigma

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return gaussian_energy(self.residual(x, theta), self.sigma)

    def simulate(self, x: Tensor, rng: NoiseSource, theta: Params = EMPTY) -> Tensor:
        return self.operator.observed(_noised(self.operator(x, theta), self.sigma, rng))


@dataclass(frozen=True, eq=False)
class UnknownGaussianLikelihood(Likelihood):
    """Gaussian noise whose standard deviation is an unknown parameter, theta[name] ([N] or [N, 1]), above 0.

    -log p(y | x, sigma) = |y - A(x)|^2 / (2 sigma^2) + m log(sigma sqrt(2 pi)) for m measured entries. Its minimum over
    sigma lies at the root mean square of their residual. Give `Unknowns({name: Unknown((1,), "softplus")})`; the
    operator gets the other entries of theta.

    Args:
        operator: A.
        y: measurements [B, *operator.out_shape], or None.
        name: name of the entry in theta.
    """

    operator: Operator
    y: Tensor | None
    name: str = "sigma"

    per_item = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self)

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return gaussian_energy(self.residual(x, theta), self._sigma(theta), self.measured)

    def residual(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return self.measurement - self.operator(x, self._others(theta))

    def simulate(self, x: Tensor, rng: NoiseSource, theta: Params = EMPTY) -> Tensor:
        return self.operator.observed(_noised(self.operator(x, self._others(theta)), self._sigma(theta), rng))

    def _others(self, theta: Params) -> Params:
        return {key: value for key, value in theta.items() if key != self.name}

    def _sigma(self, theta: Params) -> Tensor:
        if self.name not in theta:
            raise InputError(f'this likelihood needs theta["{self.name}"], the noise of each sample; got {list(theta)}')
        return theta[self.name].reshape(-1)


def check_level(value: float | Tensor, what: str) -> None:
    """Raise `InputError` unless a noise level is above 0 and is one number, or one for each item [B]."""
    check_positive(value, what)
    if isinstance(value, Tensor) and value.ndim > 1:
        raise InputError(f"{what} must be one number or one for each item [B], got a tensor {list(value.shape)}")


def gaussian_energy(residual: Tensor, sigma: float | Tensor, entries: Tensor | None = None) -> Tensor:
    """|r|^2 / (2 sigma^2) + m log(sigma sqrt(2 pi)) of residuals [N, ...], [N].

    m is `entries` [N] if given, else the number of real entries in r.
    """
    residual = residual.flatten(1)
    if residual.is_complex():
        residual = torch.view_as_real(residual).flatten(1)
    sigma = torch.as_tensor(sigma, dtype=residual.dtype, device=residual.device)
    m = residual.shape[1] if entries is None else entries
    constant = m * (torch.log(sigma) + 0.5 * math.log(2 * math.pi))
    return residual.square().sum(1) / (2 * sigma**2) + constant


def _noised(clean: Tensor, sigma: float | Tensor, rng: NoiseSource) -> Tensor:
    return clean + broadcast_sigma(sigma, clean.real) * normal_like(rng, clean)
