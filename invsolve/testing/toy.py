"""Priors with a known distribution: smooth textures, for the calibration suites, and white noise of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from invsolve.core.schedule import DDPMSchedule
from invsolve.priors import GaussianPrior, NetworkPrior

__all__ = ["textures", "white"]


def textures(*, side: int = 12, length: float = 2.0, std: float = 0.15) -> GaussianPrior:
    """A Gaussian prior of [3, side, side] images around mid-grey in [-1, 1] units, with the DDPM schedule.

    cov = (2 std)^2 C (x) exp(-|i - j|^2 / (2 length^2)) with colours correlated by 0.7. The denoiser and the posterior
    are exact, so any miscalibration comes from the solver.

    Args:
        side: height and width of the images.
        length: correlation length, in pixels.
        std: standard deviation of a pixel, in [0, 1] units.
    """
    place = torch.arange(side, dtype=torch.float64)
    axis = torch.exp(-((place[:, None] - place) ** 2) / (2 * length**2)) + 1e-4 * torch.eye(side, dtype=torch.float64)
    colours = 0.3 * torch.eye(3, dtype=torch.float64) + 0.7
    cov = (2 * std) ** 2 * torch.kron(colours, torch.kron(axis, axis))
    return GaussianPrior(torch.zeros(3, side, side, dtype=torch.float64), cov, DDPMSchedule(), (-1.0, 1.0))


class _Shrink(nn.Module):
    """Compute E[x0 | x0 + sigma n] for pixels from N(0, std^2): a multiple of the noisy image."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.variance = nn.Parameter(torch.tensor(std**2))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x * (self.variance / (self.variance + sigma.view(-1, 1, 1, 1) ** 2))


def white(*, std: float = 0.5) -> NetworkPrior:
    """White noise of standard deviation `std` in [-1, 1] units, any size, as a network with the DDPM schedule.

    A placeholder to try the protocol of a suite before its checkpoint is available.
    """
    return NetworkPrior(_Shrink(std), "edm", DDPMSchedule(), (-1.0, 1.0))
