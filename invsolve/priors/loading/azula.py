"""Denoisers of azula (https://pypi.org/project/azula) as priors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.operator import Shape
from invsolve.core.prior import Prior
from invsolve.core.schedule import Schedule

__all__ = ["AzulaPrior", "AzulaSchedule"]


class AzulaSchedule(Schedule):
    """A schedule of azula, t -> (alpha_t, sigma_t); (1, 0) at t = 0, where azula keeps a little noise.

    Args:
        schedule: an azula schedule, such as `azula.noise.VPSchedule()`.
    """

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule

    def __repr__(self) -> str:
        return f"AzulaSchedule({self.schedule!r})"

    def coefficients(self, t: float) -> tuple[float, float]:
        if t == 0.0:
            return 1.0, 0.0
        alpha, sigma = self.schedule(torch.tensor(t, dtype=torch.float64))
        return float(alpha), float(sigma)


class AzulaPrior(Prior):
    """A prior from an azula denoiser: E[x0 | x_t] is the mean of the posterior that it returns.

    Args:
        denoiser: an azula `Denoiser`; its weights are frozen and it is put into evaluation mode.
        shape: shape of one image; None if any size works.
        value_range: the values of black and white in its training images.
        arguments: keyword arguments of every call of the denoiser, such as label=...; the same for all samples.

    Raises:
        InputError: the object is not a module with an azula `schedule`.
    """

    def __init__(
        self,
        denoiser: Any,
        shape: Shape | None = None,
        value_range: tuple[float, float] = (-1.0, 1.0),
        **arguments: Any,
    ) -> None:
        if not isinstance(denoiser, torch.nn.Module) or not callable(getattr(denoiser, "schedule", None)):
            raise InputError(f"an azula denoiser with a schedule is needed, got {type(denoiser).__name__}")
        self.denoiser, self.arguments = denoiser.eval().requires_grad_(False), arguments
        self.schedule, self.shape, self.value_range = AzulaSchedule(denoiser.schedule), shape, value_range

    def __repr__(self) -> str:
        return f"AzulaPrior({type(self.denoiser).__name__}, {self.schedule!r}, value_range={self.value_range})"

    @property
    def dtype(self) -> torch.dtype:
        """The precision of states and times; azula itself converts to the precision of its network."""
        known = next((p.dtype for p in self.denoiser.parameters()), torch.get_default_dtype())
        return torch.float64 if known == torch.float64 else torch.float32

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.denoiser.parameters()), torch.device("cpu"))

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        time = torch.full((), t, dtype=x_t.dtype, device=x_t.device)
        return self.denoiser(x_t, time, **self.arguments).mean
