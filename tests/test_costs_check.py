"""Every registered cost keeps the contract, and `check_cost` finds out what breaks it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

import invsolve as iv
from invsolve import costs, operators
from invsolve.core.operator import EMPTY
from invsolve.testing import check_cost
from invsolve.testing.cost_examples import SHAPE, THETA, cost_example, likelihood_of


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", sorted(costs.COSTS))
def test_registered_costs_keep_the_contract(name, dtype):
    report = check_cost(cost_example(name), in_shape=SHAPE, dtype=dtype, theta=THETA.get(name, {}))
    report.raise_if_failed()
    if issubclass(costs.COSTS[name], iv.Likelihood):
        assert "the density integrates to 1" in [check.name for check in report.checks]


@dataclass(frozen=True, eq=False)
class Laplace(iv.Likelihood):
    """A right one with a parameter of its own name, of which each test breaks one thing."""

    operator: Any
    y: torch.Tensor | None
    width: float | torch.Tensor

    def _width(self, x):
        return torch.as_tensor(self.width, dtype=x.dtype, device=x.device).reshape(-1, 1)

    def __call__(self, x, theta=EMPTY):
        size = self.residual(x, theta).flatten(1).abs()
        return (size / self._width(x) + (2 * self._width(x)).log()).sum(1)

    def simulate(self, x, rng, theta=EMPTY):
        clean = self.operator(x, theta)
        u = rng.uniform(clean) - 0.5
        noise = -u.sign() * torch.log1p(-(2 * u.abs()).clamp_max(1 - 2**-24))
        return clean + (self._width(x) * noise.flatten(1)).view_as(clean)


class NotTaken(Laplace):
    per_item = ()


class NoConstant(Laplace):
    def __call__(self, x, theta=EMPTY):
        return (self.residual(x, theta).flatten(1).abs() / self._width(x)).sum(1)


class OtherLaw(Laplace):
    def simulate(self, x, rng, theta=EMPTY):
        clean = self.operator(x, theta)
        return clean + (self._width(x) * rng.normal(clean).flatten(1)).view_as(clean)


class OwnNoise(Laplace):
    def simulate(self, x, rng, theta=EMPTY):
        return super().simulate(x, rng, theta) + 0.01 * torch.rand(x.shape[1:])


class OverBatch(Laplace):
    def __call__(self, x, theta=EMPTY):
        return super().__call__(x, theta) / self.residual(x).norm()


class Mean(Laplace):
    def __call__(self, x, theta=EMPTY):
        return super().__call__(x, theta).mean()


class Detached(Laplace):
    def __call__(self, x, theta=EMPTY):
        return super().__call__(x.detach() + 0.5 * (x - x.detach()), theta)


class Double(Laplace):
    def __call__(self, x, theta=EMPTY):
        return super().__call__(x, theta).double()


def test_a_likelihood_of_ones_own_passes_with_a_parameter_of_any_name():
    report = check_cost(likelihood_of(Laplace))
    report.raise_if_failed()
    assert isinstance(likelihood_of(Laplace).width, torch.Tensor)
    assert len(str(report).splitlines()) == 1 + len(report.checks) + len(report.notes)


@pytest.mark.parametrize(
    ("kind", "finding"),
    [
        (NotTaken, "samples independent of their batch"),
        (NoConstant, "the density integrates to 1"),
        (OtherLaw, "draws follow the density"),
        (OwnNoise, "draws come from the rng alone"),
        (OverBatch, "samples independent of their batch"),
        (Mean, "one energy for each image"),
        (Detached, "gradient against finite differences"),
        (Double, "follows `to` torch.float32"),
    ],
)
def test_a_broken_likelihood_is_found_out(kind, finding):
    cost = replace(likelihood_of(Laplace))
    report = check_cost(kind(cost.operator, cost.y, cost.width))
    assert finding in [check.name for check in report.failures], str(report)


def test_what_cannot_be_drawn_or_guessed_is_said():
    class Silent(Laplace):
        def simulate(self, x, rng, theta=EMPTY):
            raise NotImplementedError

    report = check_cost(likelihood_of(Silent))
    assert report.passed
    assert "the density was not checked" in str(report)
    with pytest.raises(iv.InputError, match="give in_shape"):
        check_cost(costs.FunctionCost(lambda x: x.flatten(1).sum(1)))
    wrong = check_cost(costs.FunctionCost(lambda x: x.flatten(1).sum(1) * math.nan), in_shape=SHAPE)
    assert "finite energies" in [check.name for check in wrong.failures]
    own = costs.GaussianLikelihood(operators.Denoising((2, 3, 3)), None, 0.1)
    check_cost(own).raise_if_failed()  # a measurement is drawn
