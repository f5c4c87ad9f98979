"""The beta tables of published diffusion models, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from invsolve.core.checks import InputError, nearest
from invsolve.core.schedule import DDPMSchedule, Schedule

__all__ = ["as_schedule", "betas", "zero_terminal_snr"]


def betas(kind: str, n: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Compute a table of n betas.

    Args:
        kind: "linear" (Ho et al. 2020, arXiv 2006.11239), "scaled_linear" (linear in the square root, used by latent
            diffusion), "cosine" (Nichol and Dhariwal 2021, arXiv 2102.09672; betas limited to 0.999) or "sigmoid"
            (GeoDiff).
        n: number of indices.
        first, last: the first and the last beta; not used by the cosine table.

    Raises:
        InputError: an unknown kind.
    """
    kinds: Mapping[str, Callable[[], Tensor]] = {
        "linear": lambda: _line(first, last, n),
        "scaled_linear": lambda: _line(first**0.5, last**0.5, n).square(),
        "cosine": lambda: _cosine(n),
        "sigmoid": lambda: torch.sigmoid(_line(-6.0, 6.0, n)) * (last - first) + first,
    }
    if kind not in kinds:
        raise InputError(f"unknown table {kind!r}; {nearest(kind, kinds)}")
    return kinds[kind]()


def zero_terminal_snr(table: Tensor) -> Tensor:
    """Shift and scale the table so that the last index is pure noise and the first is unchanged.

    Lin et al. 2024, "Common diffusion noise schedules and sample steps are flawed", arXiv 2305.08891, algorithm 1.
    """
    roots = torch.cumprod(1 - table, 0).sqrt()
    bars = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])).square()
    return 1 - torch.cat([bars[:1], bars[1:] / bars[:-1]])


def as_schedule(schedule: Schedule | str | None) -> Schedule:
    """Return a schedule unchanged, or make one from the name of a table of 1000 steps; None means the linear table."""
    if isinstance(schedule, Schedule):
        return schedule
    return DDPMSchedule(betas(schedule or "linear"))


def _line(a: float, b: float, n: int) -> Tensor:
    return torch.linspace(a, b, n, dtype=torch.float64)


def _cosine(n: int) -> Tensor:
    bars = [math.cos((i / n + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(n + 1)]
    table = [min(1 - after / before, 0.999) for before, after in zip(bars, bars[1:], strict=False)]
    return torch.tensor(table, dtype=torch.float64)
