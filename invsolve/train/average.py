"""Running averages of weights, over a time that grows with the run."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["PowerAverage"]


class PowerAverage:
    """Power-function average of weights (Karras et al. 2024, arXiv:2312.02696, section 3.1).

    `avg_t = b_t avg_(t-1) + (1 - b_t) w_t` with `b_t = (1 - 1/t)^(gamma + 1)`: the weights of step `s` count in
    proportion to `s^gamma`, so the average covers a fixed share of the run, whatever its length.

    Args:
        module: the module to average; a copy of it holds the averaged weights.
        width: standard deviation of the averaging profile as a share of the run, in (0, 0.28).
        every: steps between two updates, which cost a pass over all weights.
    """

    def __init__(self, module: nn.Module, width: float, every: int = 8) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.gamma, self.every = _gamma(width), every

    @property
    def weights(self) -> dict[str, Tensor]:
        """The averaged weights."""
        return self.module.state_dict()

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Add the weights after step `step`, counted from 1; does nothing except at every `every`-th step."""
        if step % self.every:
            return
        keep = (1 - self.every / step) ** (self.gamma + 1)
        for mine, new in zip(self.module.parameters(), module.parameters(), strict=True):
            mine.lerp_(new, 1 - keep)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Continue from saved weights."""
        self.module.load_state_dict(weights)


def _gamma(width: float) -> float:
    """Solve `width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))` for gamma by bisection (arXiv:2312.02696, eq. 9)."""
    low, high = 0.0, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        if (middle + 1) / ((middle + 2) ** 2 * (middle + 3)) > width**2:
            low = middle
        else:
            high = middle
    return low
