"""Priors on unknown operator parameters, as penalties for `Unknown` that add nats to the energy."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from invsolve.core.checks import InputError, check_positive

__all__ = ["near", "smoothness", "sparsity"]

Penalty = Callable[[Tensor], Tensor]


def sparsity(weight: float, power: float = 0.5) -> Penalty:
    """weight * sum |theta|^power, [N]: favours few large entries. Use a power below 1 if the sum is fixed."""
    check_positive(weight, "the weight of a penalty", zero=True)
    if not 0 < power <= 2:
        raise InputError(f"the power must be above 0 and at most 2, got {power}")
    return lambda theta: weight * theta.abs().clamp_min(1e-8).pow(power).flatten(1).sum(1)


def smoothness(weight: float) -> Penalty:
    """weight * sum of the squared differences of neighbours along the last two dimensions, [N]."""
    check_positive(weight, "the weight of a penalty", zero=True)

    def penalty(theta: Tensor) -> Tensor:
        down, across = theta.diff(dim=-2), theta.diff(dim=-1)
        return weight * (down.square().flatten(1).sum(1) + across.square().flatten(1).sum(1))

    return penalty


def near(value: float, std: float) -> Penalty:
    """|theta - value|^2 / (2 std^2), [N]: a Gaussian prior on each entry."""
    check_positive(std, "std")
    return lambda theta: (theta - value).square().flatten(1).sum(1) / (2 * std**2)
