"""A prior whose law is known: smooth Gaussian colour textures. Suites of calibration draw their pictures from it."""

from __future__ import annotations

import torch

from invsolve.core.schedule import DDPMSchedule
from invsolve.priors import GaussianPrior

__all__ = ["textures"]


def textures(*, side: int = 12, length: float = 2.0, std: float = 0.15) -> GaussianPrior:
    """A Gaussian law of [3, side, side] pictures about mid-grey in [-1, 1] units, on the DDPM table.

    cov = (2 std)^2 C (x) exp(-|i - j|^2 / (2 length^2)) with colours correlated by 0.7: its denoiser and its posteriors
    are exact, so that any miscalibration is the solver's.

    Args:
        side: of the pictures.
        length: of the correlation, in pixels.
        std: of a pixel in [0, 1] units.
    """
    place = torch.arange(side, dtype=torch.float64)
    axis = torch.exp(-((place[:, None] - place) ** 2) / (2 * length**2)) + 1e-4 * torch.eye(side, dtype=torch.float64)
    colours = 0.3 * torch.eye(3, dtype=torch.float64) + 0.7
    cov = (2 * std) ** 2 * torch.kron(colours, torch.kron(axis, axis))
    return GaussianPrior(torch.zeros(3, side, side, dtype=torch.float64), cov, DDPMSchedule(), (-1.0, 1.0))
