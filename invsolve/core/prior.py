"""Priors: a denoiser E[x0 | x_t] on a noise schedule, from which noise, score and velocity follow."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import CapabilityError
from invsolve.core.operator import Shape
from invsolve.core.schedule import Schedule
from invsolve.core.traits import Traits

if TYPE_CHECKING:
    from invsolve.core.counting import Calls

__all__ = ["Prediction", "Prior", "WrappedPrior"]


class Prediction:
    """The predictions of one network call at (x_t, t).

    Attributes:
        x0: E[x0 | x_t], [N, *shape].
        variance: for networks with learned variance, the output v in [-1, 1] that interpolates the log variance between
            its two bounds (Nichol and Dhariwal 2021, arXiv 2102.09672); None otherwise.

    Args:
        eps: the noise prediction (x_t - alpha_t x0) / sigma_t, [N, *shape], or a callable that is evaluated on first
            access. Its result requires a gradient if and only if `x0` does.
    """

    __slots__ = ("_eps", "variance", "x0")

    def __init__(self, x0: Tensor, eps: Tensor | Callable[[], Tensor], variance: Tensor | None = None) -> None:
        self.x0, self._eps, self.variance = x0, eps, variance

    @property
    def eps(self) -> Tensor:
        """The noise prediction, [N, *shape]; computed on first access if it was given as a callable."""
        if isinstance(self._eps, Tensor):
            return self._eps
        if self.x0.requires_grad == torch.is_grad_enabled():
            self._eps = self._eps()
        else:
            with torch.set_grad_enabled(self.x0.requires_grad):
                self._eps = self._eps()
        return self._eps

    def detach(self) -> Prediction:
        """A copy detached from the graph."""
        eps = self._eps.detach() if isinstance(self._eps, Tensor) else self._eps
        return Prediction(self.x0.detach(), eps, None if self.variance is None else self.variance.detach())

    def replace(self, **changes: Any) -> Prediction:
        """A copy with some of x0, eps and variance replaced."""
        return Prediction(**{"x0": self.x0, "eps": self._eps, "variance": self.variance, **changes})


class Prior(ABC):
    """A distribution p(x0) of clean images, given by its denoiser.

    To add a prior, write a subclass with `schedule` and `denoise`.

    Attributes:
        schedule: x_t = alpha_t x0 + sigma_t n.
        shape: shape of one sample, without the batch dimension; None if every size is supported.
        value_range: the values of black and white in the prior's space, (-1, 1) for most networks.
        bounded: whether clean samples lie inside `value_range`, so that solvers may clamp their estimates to it.
        traits: what the prior is suited for, if its loader knows; see `invsolve.priors.traits`.
    """

    schedule: Schedule
    shape: Shape | None = None
    value_range: tuple[float, float] = (-1.0, 1.0)
    bounded: bool = True
    traits: Traits | None = None

    @abstractmethod
    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        """E[x0 | x_t], [N, *shape] -> [N, *shape]."""

    def predict(self, x_t: Tensor, t: float) -> Prediction:
        """Predict x0 and the noise with one evaluation."""
        x0 = self.denoise(x_t, t)

        def eps() -> Tensor:
            alpha, sigma = self.schedule(t)
            return torch.add(x_t, x0, alpha=-alpha).div_(sigma)

        return Prediction(x0, eps)

    def eps(self, x_t: Tensor, t: float) -> Tensor:
        """E[n | x_t], the noise prediction."""
        return self.predict(x_t, t).eps

    def score(self, x_t: Tensor, t: float) -> Tensor:
        """grad log p_t(x_t) = -eps / sigma_t."""
        return -self.eps(x_t, t) / self.schedule(t)[1]

    def velocity(self, x_t: Tensor, t: float) -> Tensor:
        """E[n - x0 | x_t], the velocity of straight-line flow matching."""
        prediction = self.predict(x_t, t)
        return prediction.eps - prediction.x0

    def given(self, **condition: Any) -> Prior:
        """The prior conditioned on, for example, label=3.

        Raises:
            CapabilityError: the prior does not support the condition.
        """
        names = ", ".join(condition) or "nothing"
        raise CapabilityError(f"{type(self).__name__} is unconditional and cannot be given {names}")

    def decode(self, z: Tensor) -> Tensor:
        """Map from the prior's space to images in `value_range`: the identity unless the prior is latent."""
        return z

    def encode(self, x: Tensor) -> Tensor:
        """Map from images in `value_range` to the prior's space: the identity unless the prior is latent."""
        return x

    @property
    def latent(self) -> bool:
        """Whether `decode` is anything but the identity."""
        return type(self).decode is not Prior.decode

    @property
    def unbound(self) -> str | None:
        """The missing condition, as the end of a sentence ("needs a class: ..."); None if nothing is missing."""
        return None

    @property
    def image_channels(self) -> int | None:
        """The number of image channels; None if it is not known."""
        return None if self.latent or self.shape is None else self.shape[0]

    @property
    def divides_by_alpha(self) -> bool:
        """Whether predictions divide by alpha_t, so that they do not exist where it is 0."""
        return False

    @property
    def items(self) -> int | None:
        """The number of images that the condition is given for; None if it applies to any batch."""
        return None

    def select(self, rows: Tensor) -> Self:
        """The prior for the batch rows `rows` ([M] indices); unchanged if all samples share its condition."""
        return self

    def counted(self, calls: Calls) -> Prior:
        """A prior that counts its network evaluations in `calls`; each network of a combined prior is counted."""
        from invsolve.core.counting import CountingPrior

        return CountingPrior(self, calls)

    @property
    def device(self) -> torch.device:
        """The device of the prior's network."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The precision of states on this prior."""
        return torch.float32

    def clamp(self, x0: Tensor) -> Tensor:
        """Clamp `x0` to the value range if the prior is bounded; otherwise return it unchanged."""
        if not self.bounded:
            return x0
        # Both clamp alike; the gradient of hardtanh is one vectorised operation, that of clamp is four slow ones.
        return F.hardtanh(x0, *self.value_range) if x0.requires_grad else x0.clamp(*self.value_range)


class WrappedPrior(Prior):
    """Base class of priors that wrap another prior and change only its predictions.

    A condition or a selection of rows is passed on to the wrapped prior.

    Attributes:
        prior: the wrapped prior.
    """

    def __init__(self, prior: Prior) -> None:
        self.prior = prior
        self.schedule, self.shape = prior.schedule, prior.shape
        self.value_range, self.bounded, self.traits = prior.value_range, prior.bounded, prior.traits

    def around(self, prior: Prior) -> Self:
        """The same wrapper around another prior of the same images."""
        other = copy.copy(self)
        other.prior = prior
        return other

    def given(self, **condition: Any) -> Prior:
        return self.around(self.prior.given(**condition))

    def select(self, rows: Tensor) -> Self:
        return self.around(self.prior.select(rows))

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        return self.predict(x_t, t).x0

    @abstractmethod
    def predict(self, x_t: Tensor, t: float) -> Prediction:
        """Predict x0 and the noise with one evaluation."""

    def decode(self, z: Tensor) -> Tensor:
        return self.prior.decode(z)

    def encode(self, x: Tensor) -> Tensor:
        return self.prior.encode(x)

    @property
    def latent(self) -> bool:
        return self.prior.latent

    @property
    def unbound(self) -> str | None:
        return self.prior.unbound

    @property
    def divides_by_alpha(self) -> bool:
        return self.prior.divides_by_alpha

    @property
    def image_channels(self) -> int | None:
        return self.prior.image_channels

    @property
    def items(self) -> int | None:
        return self.prior.items

    @property
    def device(self) -> torch.device:
        return self.prior.device

    @property
    def dtype(self) -> torch.dtype:
        return self.prior.dtype
