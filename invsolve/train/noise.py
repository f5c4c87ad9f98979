"""The noise levels used in training, and the weight of each in the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from invsolve.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LevelWeights", "NoiseLaw"]


@dataclass(frozen=True)
class NoiseLaw:
    """`log(sigma)` is drawn from a narrow Gaussian (restoration) or a wide one (diffusion), clipped to [low, high].

    Args:
        narrow: mean and standard deviation of `log(sigma)` for restoration, sigma in [-1, 1] units.
        wide: the same for the whole range of a diffusion.
        wide_share: share of draws from the wide Gaussian, in [0, 1].
        low: smallest sigma.
        high: largest sigma.
    """

    narrow: tuple[float, float] = (-1.7, 0.9)
    wide: tuple[float, float] = (-1.2, 2.2)
    wide_share: float = 0.25
    low: float = 0.004
    high: float = 100.0

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw `n` stratified noise levels, `[n]`: each follows the distribution, and a batch covers it evenly."""
        u = (torch.arange(n) + torch.rand(n, generator=generator)) / n
        n_wide = u < self.wide_share
        inner = torch.where(
            n_wide, u / max(self.wide_share, 1e-9), (u - self.wide_share) / max(1 - self.wide_share, 1e-9)
        )
        z = math.sqrt(2) * torch.erfinv(2 * inner.clamp(1e-4, 1 - 1e-4) - 1)
        log_sigma = torch.where(n_wide, self.wide[0] + self.wide[1] * z, self.narrow[0] + self.narrow[1] * z)
        return log_sigma.clamp(math.log(self.low), math.log(self.high)).exp()[torch.randperm(n, generator=generator)]


class LevelWeights:
    """Weights `1 / E[loss | sigma]`, so that every noise level counts equally (in decibels) in the total.

    The expectation is a running mean in bins of `log(sigma)`. A weight depends on sigma only, so the minimiser stays
    the posterior mean (after the learned weights of Karras et al. 2024, arXiv:2312.02696, section 2.2).

    Args:
        bins: number of bins.
        low: sigma of the first bin.
        high: sigma of the last bin.
        decay: decay factor of the running mean for each sample in a bin.
    """

    def __init__(self, bins: int = 40, low: float = 0.004, high: float = 100.0, decay: float = 0.98) -> None:
        self.mean = torch.ones(bins)
        self._origin, self._width, self._decay = math.log(low), math.log(high / low) / (bins - 1), decay

    @property
    def levels(self) -> Tensor:
        """sigma at the centre of each bin, `[bins]`."""
        return (self._origin + self._width * torch.arange(len(self.mean))).exp()

    def _bin(self, sigma: Tensor) -> Tensor:
        return ((sigma.log() - self._origin) / self._width).round().long().clamp(0, len(self.mean) - 1)

    def __call__(self, sigma: Tensor) -> Tensor:
        """Return the weights of `sigma [n]`."""
        return 1 / self.mean[self._bin(sigma)].clamp_min(1e-4)

    def update(self, sigma: Tensor, loss: Tensor) -> None:
        """Update the running means with the unweighted losses `[n]` of samples at `sigma [n]`, in order."""
        for i, value in zip(self._bin(sigma).tolist(), loss.tolist(), strict=True):
            self.mean[i] = self._decay * self.mean[i] + (1 - self._decay) * value
