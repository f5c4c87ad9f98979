"""Preconditioning that turns a network F into a denoiser: D(x; sigma) = c_skip x + c_out F(c_in x, c_noise).

The four pairs of scales are those of table 1 of Karras et al. 2022, "Elucidating the design space of diffusion-based
generative models", arXiv 2206.00364. Images are in [-1, 1], x = x0 + sigma n.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["EDMScaling", "IDDPMScaling", "Preconditioned", "Scales", "VEScaling", "VPScaling"]


class Scales(NamedTuple):
    """c_skip, c_out, c_in and c_noise, [N] each."""

    skip: Tensor
    out: Tensor
    inside: Tensor
    noise: Tensor


class EDMScaling(nn.Module):
    """c_skip = s^2 / (sigma^2 + s^2), c_out = sigma s / sqrt(sigma^2 + s^2), c_in = 1 / sqrt(sigma^2 + s^2),
    c_noise = ln(sigma) / 4.

    Args:
        sigma_data: s, the standard deviation of the data.
        negated: whether the network predicts -F, as networks trained to predict v do.
    """

    def __init__(self, sigma_data: float = 0.5, *, negated: bool = False) -> None:
        super().__init__()
        self.sigma_data, self.sign = float(sigma_data), -1.0 if negated else 1.0

    def forward(self, sigma: Tensor) -> Scales:
        """The scales at noise levels sigma [N]."""
        total = sigma.square() + self.sigma_data**2
        inside = total.rsqrt()
        outside = self.sign * self.sigma_data * sigma * inside
        return Scales(self.sigma_data**2 / total, outside, inside, sigma.log() / 4)


class VPScaling(nn.Module):
    """c_skip = 1, c_out = -sigma, c_in = 1 / sqrt(sigma^2 + 1), c_noise = (M - 1) t(sigma).

    t(sigma) is the inverse of sigma(t) = sqrt(exp(beta_d t^2 / 2 + beta_min t) - 1).

    Args:
        beta_d, beta_min: slope and initial value of the linear beta(t).
        n_steps: M, the number of indices of the table that the network was trained with.
    """

    def __init__(self, beta_d: float = 19.9, beta_min: float = 0.1, n_steps: int = 1000) -> None:
        super().__init__()
        self.beta_d, self.beta_min, self.n_steps = float(beta_d), float(beta_min), int(n_steps)

    def sigma(self, t: float) -> float:
        """The noise level at a time."""
        return math.sqrt(math.expm1(0.5 * self.beta_d * t * t + self.beta_min * t))

    def time(self, sigma: Tensor) -> Tensor:
        """The times of noise levels [N]."""
        integral = torch.log1p(sigma.square())
        # The square root minus beta_min, in a form without cancellation at small noise.
        return 2 * integral / ((self.beta_min**2 + 2 * self.beta_d * integral).sqrt() + self.beta_min)

    def forward(self, sigma: Tensor) -> Scales:
        """The scales at noise levels sigma [N]."""
        noise = (self.n_steps - 1) * self.time(sigma)
        return Scales(torch.ones_like(sigma), -sigma, (sigma.square() + 1).rsqrt(), noise)


class VEScaling(nn.Module):
    """c_skip = 1, c_out = sigma, c_in = 1, c_noise = ln(sigma / 2)."""

    def forward(self, sigma: Tensor) -> Scales:
        """The scales at noise levels sigma [N]."""
        one = torch.ones_like(sigma)
        return Scales(one, sigma, one, (0.5 * sigma).log())


class IDDPMScaling(nn.Module):
    """c_skip = 1, c_out = -sigma, c_in = 1 / sqrt(sigma^2 + 1), c_noise = M - 1 - argmin_j |u_j - sigma|.

    The levels are u_M = 0, u_(j-1) = sqrt((u_j^2 + 1) / max(a_(j-1) / a_j, C_1) - 1) with
    a_j = sin^2(pi/2 j / (M (C_2 + 1))).

    Args:
        n_steps, c1, c2: M, C_1, C_2.
    """

    levels: Tensor

    def __init__(self, n_steps: int = 1000, c1: float = 0.001, c2: float = 0.008) -> None:
        super().__init__()
        bars = [math.sin(0.5 * math.pi * j / (n_steps * (c2 + 1))) ** 2 for j in range(n_steps + 1)]
        levels = [0.0]
        for j in range(n_steps, 0, -1):
            levels.append(math.sqrt((levels[-1] ** 2 + 1) / max(bars[j - 1] / bars[j], c1) - 1))
        self.n_steps = n_steps
        self.register_buffer("levels", torch.tensor(levels[::-1]), persistent=False)

    def forward(self, sigma: Tensor) -> Scales:
        """The scales at noise levels sigma [N]."""
        index = (self.levels - sigma[:, None]).abs().argmin(1)
        noise = (self.n_steps - 1 - index).to(sigma.dtype)
        return Scales(torch.ones_like(sigma), -sigma, (sigma.square() + 1).rsqrt(), noise)


class Preconditioned(nn.Module):
    """D(x; sigma) of a network F(z, c_noise, **conditions); a learned variance in the second half of F is dropped.

    Args:
        network: the network F.
        scaling: module sigma [N] -> `Scales`.
    """

    def __init__(self, network: nn.Module, scaling: nn.Module) -> None:
        super().__init__()
        self.network, self.scaling = network, scaling

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor | int | None = None, **conditions: Any) -> Tensor:
        """The clean estimate, [N, C, H, W], for sigma [N]."""
        if label is not None:
            conditions["label"] = label
        # 0 has no logarithm; a noise level below all training levels also means "clean".
        scales = self.scaling(sigma.to(x.dtype).clamp_min(1e-5))
        skip, outside, inside = (scale[:, None, None, None] for scale in scales[:3])
        out = self.network(inside * x, scales.noise, **conditions)[:, : x.shape[1]]
        return skip * x + outside * out.to(x.dtype)
