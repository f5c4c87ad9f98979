"""Check, on a measurement of one entry, that a likelihood is a density and that its simulated draws follow it."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from invsolve.core.checks import ShapeError
from invsolve.core.cost import Likelihood
from invsolve.core.operator import Operator, Params
from invsolve.core.rng import Rng
from invsolve.operators.pointwise import Denoising
from invsolve.testing.report import Report

__all__ = ["check_density", "with_measurement"]

DRAWS, POINTS = 1500, 20001
ALARM = 2.7
"""Limit of sqrt(n) times the Kolmogorov distance; draws of the true law exceed it with probability
2 exp(-2 2.7^2) = 1e-6."""


def with_measurement(likelihood: Any, y: Tensor | None, operator: Operator | None = None) -> Any:
    """Return the likelihood with another measurement, and with another operator if one is given."""
    changes = {"y": y} if operator is None else {"y": y, "operator": operator}
    if dataclasses.is_dataclass(likelihood):
        return dataclasses.replace(likelihood, **changes)  # pyright: ignore[reportArgumentType]
    twin = copy.copy(likelihood)
    vars(twin).update(changes)
    return twin


def check_density(report: Report, likelihood: Likelihood, theta: Params, seed: int) -> None:
    """Check, for the first and the last item, that exp(-Phi) of one entry has total mass 1 and that draws follow it."""
    items = likelihood.measurement.shape[0]
    mass, distance = 0.0, 0.0
    for item in sorted({0, items - 1}):
        for level in (0.3, 0.7):
            try:
                found = _one_entry(likelihood, theta, item, level, seed)
            except ShapeError:
                report.notes.append("its parameters fit no measurement of one entry: the density was not checked")
                return
            mass, distance = max(mass, abs(found[0] - 1)), max(distance, found[1])
    told = "exp(-energy) over all y: a constant or a factor is missing, or the parameter's own logarithm"
    report.error("the density integrates to 1", mass, 0.02, told)
    report.error("draws follow the density", distance, ALARM, "simulate and the energy do not match")


def _one_entry(likelihood: Likelihood, theta: Params, item: int, level: float, seed: int) -> tuple[float, float]:
    """Return the total mass over y for one pixel, and sqrt(n) times the distance of draws from the density."""
    own = {name: value[item : item + 1] for name, value in theta.items()}
    one = likelihood.select(torch.tensor([item]))
    pixel = Denoising((1, 1, 1))

    def rows(n: int) -> tuple[Any, Tensor, dict[str, Tensor]]:
        like = likelihood.measurement.real if likelihood.measurement.is_complex() else likelihood.measurement
        y = torch.ones(1, 1, 1, 1, dtype=like.dtype)  # every likelihood accepts a white pixel
        single = with_measurement(one, y, pixel)
        x = torch.full((n, 1, 1, 1), level, dtype=like.dtype)
        pick = torch.zeros(n, dtype=torch.int64)
        return single.select(pick), x, {name: value[pick] for name, value in own.items()}

    def energies(y: Tensor) -> Tensor:
        many, x, parameters = rows(len(y))
        with torch.no_grad():
            return with_measurement(many, y.view(-1, 1, 1, 1))(x, parameters).double()

    many, x, parameters = rows(DRAWS)
    drawn = many.simulate(x, Rng(seed), parameters).flatten()
    values, counts = drawn.unique(return_counts=True)
    if len(values) < DRAWS // 2:  # a discrete distribution
        mass = torch.exp(-energies(values)).cumsum(0)
        found = counts.cumsum(0).double() / DRAWS
        return float(mass[-1]), math.sqrt(DRAWS) * float((found - mass).abs().max())
    y, width = _grid(drawn)
    density = torch.exp(-energies(y))
    mass = torch.cat([density.new_zeros(1), (0.5 * (density[1:] + density[:-1]) * width).cumsum(0)])
    place = torch.searchsorted(y, values.clamp(y[0], y[-1])).clamp(1, len(y) - 1)
    share = ((values - y[place - 1]) / (y[place] - y[place - 1])).double()
    expected = torch.lerp(mass[place - 1], mass[place], share)
    found = counts.cumsum(0).double() / DRAWS
    return float(mass[-1]), math.sqrt(DRAWS) * float((found - expected).abs().max())


def _grid(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Return a grid far beyond the draws, dense near them, and its spacing; only points above 0 if all draws are."""
    quartiles = torch.quantile(drawn, torch.tensor([0.25, 0.5, 0.75], dtype=drawn.dtype))
    size = float(quartiles[2] - quartiles[0]) or 1e-6
    angle = torch.linspace(-0.5, 0.5, POINTS + 2, dtype=torch.float64)[1:-1] * math.pi
    y = float(quartiles[1]) + size * torch.tan(angle)
    y = (y[y > 0] if bool((drawn > 0).all()) else y).to(drawn.dtype)
    return y, (y[1:] - y[:-1]).double()
