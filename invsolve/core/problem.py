"""`Problem`: a prior and a terminal cost. Solvers get energies, residuals and linear data from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError, check_one_each, needing_gradients
from invsolve.core.cost import Likelihood, TerminalCost, broadcast_sigma, linear_gaussian
from invsolve.core.linalg import real_dtype
from invsolve.core.linear_data import LinearData, SpectralData, spectral
from invsolve.core.operator import EMPTY, LinearOperator, Params, Shape
from invsolve.core.prior import Prior
from invsolve.core.start import ASSUMED_SIGMA, guided_estimate, smooth_estimate
from invsolve.core.unknowns import Unknowns

__all__ = ["Problem"]


@dataclass(frozen=True, eq=False)
class Problem:
    """A prior and the cost that guides its samples.

    Args:
        prior: the prior, already conditioned on its label if it has one.
        cost: the terminal cost, or None for unconditional sampling.
        unknowns: unknown parameters of the cost's operator, for blind problems.
        shape: shape of one sample in the prior's space; required only if neither the prior nor the operator knows it.
    """

    prior: Prior
    cost: TerminalCost | None = None
    unknowns: Unknowns | None = None
    shape: Shape | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.prior, Prior):
            kind = type(self.prior).__name__
            raise InputError(f"a problem takes a Prior, got {kind}: see priors.load and priors.NetworkPrior")
        if self.cost is not None and not isinstance(self.cost, TerminalCost):
            kind = type(self.cost).__name__
            raise InputError(f"a problem takes a TerminalCost, got {kind}: see costs.FunctionCost for a function")
        if self.cost is not None:
            self.cost.check()

    @property
    def items(self) -> int:
        """The number of images to restore, from the cost's measurements or the prior's labels.

        Raises:
            InputError: the numbers of labels and measurements differ.
        """
        of_cost = self.cost.items if self.cost is not None else None
        of_prior = self.prior.items
        if of_cost is not None and of_prior is not None and of_cost != of_prior:
            raise InputError(f"the prior is given {of_prior} labels for {of_cost} images: give one number or one each")
        known = of_prior if of_cost is None else of_cost
        return 1 if known is None else known

    @cached_property
    def state_shape(self) -> Shape:
        """The shape of one sample in the prior's space.

        Raises:
            InputError: neither the prior nor the operator states it, or they disagree.
        """
        operator = self.cost.operator.in_shape if isinstance(self.cost, Likelihood) else None
        known = self.shape or self.prior.shape
        if known is None and operator is not None:
            if self.prior.latent:
                raise InputError("a latent prior of any size needs Problem(..., shape=latent shape)")
            known = operator
        if known is None:
            raise InputError("the sample's shape is unknown: give Problem(..., shape=(channels, height, width))")
        if operator is not None and not self.prior.latent and tuple(known) != tuple(operator):
            raise InputError(f"the prior makes samples of shape {list(known)}, the operator takes {list(operator)}")
        return tuple(known)

    def empty(self, n: int) -> Tensor:
        """A tensor [n, *state_shape] in the prior's precision and on its device."""
        return torch.empty((n, *self.state_shape), dtype=self.prior.dtype, device=self.prior.device)

    @property
    def width(self) -> float:
        """White minus black in the prior's range: 2 for a [-1, 1] prior."""
        return self.prior.value_range[1] - self.prior.value_range[0]

    def to_image(self, x0: Tensor) -> Tensor:
        """Map from the prior's space to images in [0, 1] units (not clipped)."""
        low, _ = self.prior.value_range
        decoded = self.prior.decode(x0)
        return decoded if (low, self.width) == (0.0, 1.0) else (decoded - low) / self.width

    def from_image(self, image: Tensor) -> Tensor:
        """Map from images in [0, 1] units to the prior's space."""
        return self.prior.encode(image * self.width + self.prior.value_range[0])

    def theta(self, raw: Params) -> Params:
        """The operator's parameters computed from raw (unconstrained) ones; empty unless the problem is blind."""
        return EMPTY if self.unknowns is None else self.unknowns.constrain(raw)

    def energy(self, x0: Tensor, raw: Params = EMPTY) -> Tensor:
        """Phi(decode(x0), theta) plus the penalties on theta, [N] in nats."""
        theta = self.theta(raw)
        with needing_gradients(x0, type(self.cost).__name__):
            energy = self._differentiable(self._cost(self.to_image(x0), theta), x0)
        check_one_each(energy, len(x0), type(self.cost).__name__)
        return energy if self.unknowns is None else energy + self.unknowns.penalty(theta)

    def noisy_energy(self, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        """The cost's own energy of noisy states x_t = alpha x0 + sigma n, alpha above 0, [N] in nats.

        Raises:
            CapabilityError: the cost can only evaluate clean images.
        """
        with needing_gradients(x_t, type(self.cost).__name__):
            return self._cost.noisy(self.to_image(x_t / alpha), sigma / (alpha * self.width))

    def residual(self, x0: Tensor, raw: Params = EMPTY) -> Tensor:
        """y - A(x0) in the prior's units (twice those of [0, 1] for a [-1, 1] prior), [N, *out_shape]."""
        if self.plain_data is not None:
            return self.plain_data.y - self.plain_data.operator(x0)
        if not isinstance(self.cost, Likelihood):
            raise CapabilityError(f"{type(self.cost).__name__} has no measurement residual: use energy")
        residual = self.cost.residual(self.to_image(x0), self.theta(raw))
        return residual if self.width == 1.0 else self.width * residual

    def residual_sq(self, x0: Tensor, raw: Params = EMPTY) -> Tensor:
        """|y - A(x0)|^2 in the prior's units, [N]. Published guidance weights refer to it."""
        residual = self.residual(x0, raw).flatten(1)
        return (residual.conj() * residual).real.sum(1) if residual.is_complex() else residual.square().sum(1)

    def misfit(self, x0: Tensor, raw: Params = EMPTY) -> Tensor:
        """What guidance weights multiply, [N]: `energy`, with `residual_sq` in place of the cost for Gaussian noise."""
        if not self.quadratic:
            return self.energy(x0, raw)
        misfit = self._differentiable(self.residual_sq(x0, raw), x0)
        return misfit if self.unknowns is None else misfit + self.unknowns.penalty(self.theta(raw))

    def _differentiable(self, value: Tensor, x0: Tensor) -> Tensor:
        """Return `value` after checking that it is differentiable if `x0` requires a gradient.

        Raises:
            CapabilityError: the cost or its operator is not differentiable.
        """
        if x0.requires_grad and torch.is_grad_enabled() and not value.requires_grad:
            raise CapabilityError(
                f"{type(self.cost).__name__} has no gradient with respect to the image: use SCG, which needs none, "
                "or write the cost in torch operations"
            )
        return value

    @cached_property
    def quadratic(self) -> bool:
        """Whether the cost is a Gaussian likelihood, so that its misfit is a squared residual."""
        return isinstance(self.cost, Likelihood) and self.cost.gaussian_sigma is not None

    @cached_property
    def entries(self) -> int:
        """The number of entries of one measurement.

        Raises:
            CapabilityError: the cost has no measurement.
        """
        if not isinstance(self.cost, Likelihood):
            raise CapabilityError(f"{type(self.cost).__name__} has no measurement")
        return self.cost.measurement[0].numel()

    @cached_property
    def linear_data(self) -> LinearData:
        """The linear-Gaussian problem in the prior's units: with x = w u + l, y' = w y + l A(1) and sigma' = w sigma.

        Raises:
            CapabilityError: the operator is not linear, the noise not Gaussian, or the prior latent.
        """
        parts = linear_gaussian(self.cost)
        if parts is None or self.prior.latent:
            raise CapabilityError(
                "a linear operator with Gaussian noise and a pixel-space prior is needed here: "
                "use NDTM, DPS or RED-diff for other problems"
            )
        operator, y, sigma = parts
        low, _ = self.prior.value_range
        if low != 0.0:
            ones = torch.ones((len(y), *operator.in_shape), dtype=real_dtype(y), device=y.device)
            y = self.width * y + low * operator(ones)
        elif self.width != 1.0:
            y = self.width * y
        return LinearData(operator, y, broadcast_sigma(sigma, y) * self.width)

    @cached_property
    def plain_data(self) -> LinearData | None:
        """`linear_data` if the problem is linear, Gaussian and not blind, else None."""
        if linear_gaussian(self.cost) is None or self.prior.latent or self.unknowns is not None:
            return None
        return self.linear_data

    @cached_property
    def spectral_data(self) -> SpectralData:
        """`linear_data` in the singular coordinates of its operator.

        Raises:
            CapabilityError: as `linear_data`, or the operator has no singular value decomposition.
        """
        return spectral(self.linear_data)

    def repeated(self, n: int, size: int) -> Problem:
        """The problem with each of its n rows repeated `size` times, [n * size] rows; cached for each pair."""
        if (n, size) not in self._repeated:
            self._repeated[n, size] = self.select(torch.arange(n).repeat_interleave(size))
        return self._repeated[n, size]

    @cached_property
    def _repeated(self) -> dict[tuple[int, int], Problem]:
        return {}

    @cached_property
    def initial_estimate(self) -> Tensor:
        """The starting point of guided solvers: a first estimate of the clean state, [B, ...].

        For linear operators it is A^+ y, as published, if the pseudo-inverse is well conditioned, and `smooth_estimate`
        otherwise; see `invsolve.core.start`. For other operators it is y itself if the shapes agree.

        Raises:
            CapabilityError: the cost has no measurement, or no image follows from it.
        """
        return self._estimate(guided_estimate)

    @cached_property
    def smooth_estimate(self) -> Tensor:
        """A first estimate that accounts for the noise, [B, ...].

        For linear A it is argmin |y - A x|^2 + (sigma / 0.1)^2 <x, L x>, where L is the negative Laplacian with
        mirrored borders, and sigma and 0.1 are in [0, 1] units (sigma is 0.02 if the noise is not Gaussian). For other
        operators it is y itself if the shapes agree.

        Raises:
            CapabilityError: the cost has no measurement, or no image follows from it.
        """
        return self._estimate(smooth_estimate)

    def _estimate(self, estimate: Callable[[LinearOperator, Tensor, float | Tensor, float], Tensor]) -> Tensor:
        if self.plain_data is not None:
            operator, y, sigma = self.plain_data
            return estimate(operator, y, sigma, self.width)
        if isinstance(self.cost, Likelihood):
            operator, y, sigma = self.cost.operator, self.cost.measurement, self.cost.gaussian_sigma
            if isinstance(operator, LinearOperator) and self.unknowns is None:
                return self.from_image(estimate(operator, y, ASSUMED_SIGMA if sigma is None else sigma, 1.0))
            if operator.in_shape == operator.out_shape and not y.is_complex():
                return self.from_image(y)
        raise CapabilityError("this measurement gives no image to start from: start from noise (start='random')")

    def select(self, rows: Tensor) -> Problem:
        """The problem for the items `rows` ([M] indices, repetitions allowed)."""
        cost = None if self.cost is None else self.cost.select(rows)
        return replace(self, prior=self.prior.select(rows), cost=cost)

    def on_prior(self) -> Problem:
        """The problem with its data on the prior's device and in its precision."""
        if self.cost is None:
            return self
        return replace(self, cost=self.cost.to(self.prior.device, self.prior.dtype))

    @property
    def _cost(self) -> TerminalCost:
        if self.cost is None:
            raise CapabilityError("this problem has no cost to evaluate: give Problem(prior, cost)")
        return self.cost
