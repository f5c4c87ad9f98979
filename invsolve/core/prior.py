"""Priors: a denoiser E[x0 | x_t] on a noise schedule, from which noise, score and velocity follow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError
from invsolve.core.operator import Shape
from invsolve.core.schedule import Schedule

__all__ = ["Calls", "CountingPrior", "Prediction", "Prior", "WrappedPrior"]


class Prediction(NamedTuple):
    """What one network call says at (x_t, t).

    Attributes:
        x0: E[x0 | x_t], [N, *shape].
        eps: the noise (x_t - alpha_t x0) / sigma_t, [N, *shape].
        variance: where the network learned one, its output v in [-1, 1] that places log variance between the two
            bounds of Nichol and Dhariwal 2021 (arXiv 2102.09672); None otherwise.
    """

    x0: Tensor
    eps: Tensor
    variance: Tensor | None = None


class Prior(ABC):
    """p(x0), known through its denoiser.

    A new prior is a subclass with `schedule` and `denoise`.

    Attributes:
        schedule: x_t = alpha_t x0 + sigma_t n.
        shape: of one sample, without the batch dimension; None where any size is served.
        value_range: the values that stand for black and white in the prior's space, (-1, 1) for most networks.
        bounded: whether clean samples lie inside `value_range`, so that solvers may clamp their estimates to it.
    """

    schedule: Schedule
    shape: Shape | None = None
    value_range: tuple[float, float] = (-1.0, 1.0)
    bounded: bool = True

    @abstractmethod
    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        """E[x0 | x_t], [N, *shape] -> [N, *shape]."""

    def predict(self, x_t: Tensor, t: float) -> Prediction:
        """x0 and the noise from one evaluation."""
        alpha, sigma = self.schedule(t)
        x0 = self.denoise(x_t, t)
        return Prediction(x0, (x_t - alpha * x0) / sigma)

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
            CapabilityError: the prior takes no such condition; nothing is dropped silently.
        """
        names = ", ".join(condition) or "nothing"
        raise CapabilityError(f"{type(self).__name__} is unconditional and cannot be given {names}")

    def decode(self, z: Tensor) -> Tensor:
        """From the prior's space to pictures in `value_range`: the identity unless the prior is latent."""
        return z

    def encode(self, x: Tensor) -> Tensor:
        """From pictures in `value_range` to the prior's space: the identity unless the prior is latent."""
        return x

    @property
    def latent(self) -> bool:
        """Whether `decode` is anything but the identity."""
        return type(self).decode is not Prior.decode

    @property
    def items(self) -> int | None:
        """The number of pictures a bound condition is for, None where it serves any batch."""
        return None

    def select(self, rows: Tensor) -> Self:
        """The prior for the batch rows `rows` where its condition differs from sample to sample."""
        return self

    def counted(self, calls: Calls) -> Prior:
        """The prior with every network evaluation counted; priors made of several networks count each."""
        return CountingPrior(self, calls)

    @property
    def device(self) -> torch.device:
        """Where the prior computes."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The precision of states on this prior."""
        return torch.float32

    def clamp(self, x0: Tensor) -> Tensor:
        """`x0` limited to the value range where the prior is bounded, unchanged otherwise."""
        return x0.clamp(*self.value_range) if self.bounded else x0


class Calls:
    """How often a network was evaluated and differentiated, in rows (samples)."""

    def __init__(self) -> None:
        self.forward_rows = 0
        self.backward_rows = 0


class _CountBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, calls: Calls) -> Tensor:
        ctx.calls = calls
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        ctx.calls.backward_rows += len(grads[0])
        return grads[0], None


class WrappedPrior(Prior):
    """A prior made of another: all but the denoiser is the other's.

    Attributes:
        prior: the other.
    """

    def __init__(self, prior: Prior) -> None:
        self.prior = prior
        self.schedule, self.shape = prior.schedule, prior.shape
        self.value_range, self.bounded = prior.value_range, prior.bounded

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        return self.predict(x_t, t).x0

    @abstractmethod
    def predict(self, x_t: Tensor, t: float) -> Prediction:
        """x0 and the noise from one evaluation."""

    def decode(self, z: Tensor) -> Tensor:
        return self.prior.decode(z)

    def encode(self, x: Tensor) -> Tensor:
        return self.prior.encode(x)

    @property
    def latent(self) -> bool:
        return self.prior.latent

    @property
    def items(self) -> int | None:
        return self.prior.items

    @property
    def device(self) -> torch.device:
        return self.prior.device

    @property
    def dtype(self) -> torch.dtype:
        return self.prior.dtype


class CountingPrior(WrappedPrior):
    """A prior that counts the calls made to another, forward and backward to the input."""

    def __init__(self, prior: Prior, calls: Calls | None = None) -> None:
        super().__init__(prior)
        self.calls = calls or Calls()

    def predict(self, x_t: Tensor, t: float) -> Prediction:
        self.calls.forward_rows += len(x_t)
        if torch.is_grad_enabled() and x_t.requires_grad:
            x_t = _CountBackward.apply(x_t, self.calls)
        return self.prior.predict(x_t, t)

    def given(self, **condition: Any) -> Prior:
        return CountingPrior(self.prior.given(**condition), self.calls)

    def select(self, rows: Tensor) -> CountingPrior:
        return CountingPrior(self.prior.select(rows), self.calls)
