"""A step queues its work and goes on: it never waits for the device to hand a number back to Python."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
import toy
from torch.utils._python_dispatch import TorchDispatchMode

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.priors.guidance.combinations import classifier_free

WAITING = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "is_nonzero", "_unique2"}
"""Operations whose result, or whose size, must come back from the device before Python can go on."""


class Waits(TorchDispatchMode):
    """Counts the operations that would make Python wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        masks = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in WAITING or masks:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


def waits_of_a_step(solver: iv.Solver) -> Counter[str]:
    """What the third step waits for, on an operator with closed forms."""
    mask = (torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.4).double()
    operator = operators.Inpainting(toy.SHAPE, mask)
    clean = toy.gaussian().sample(2, iv.Rng(1))
    y = costs.GaussianLikelihood(operator, None, 0.05).simulate(clean, iv.Rng(2))
    return waits_of_the_third_step(solver, iv.Problem(toy.gaussian(), costs.GaussianLikelihood(operator, y, 0.05)))


def waits_of_the_third_step(solver: iv.Solver, problem: iv.Problem) -> Counter[str]:
    problem, rng = problem.on_prior(), iv.Rng(0)
    state = solver.init(problem, 2, rng)
    for _ in range(2):
        state, _ = solver.step(problem, state, rng)
    with Waits() as waits:
        solver.step(problem, state, rng)
    return waits.seen


@pytest.mark.parametrize("name", sorted(solvers.SOLVERS))
def test_no_step_waits_for_the_device(name):
    assert waits_of_a_step(toy.quick(name)) == Counter()


def test_a_rule_that_stops_at_the_residual_waits_and_is_seen():
    solver = dataclasses.replace(solvers.NDTM(n_steps=8, n_inner=3), stop=1.0)
    assert waits_of_a_step(solver)


def test_labels_are_checked_when_they_are_bound_and_not_at_every_step():
    digits = priors.load("digits")
    labels = torch.tensor([3, 7])
    guided = classifier_free(digits, 2.0, condition={"label": labels}, null={"label": 10})
    for prior in (digits, digits.given(label=labels), guided):
        assert not waits_of_the_third_step(solvers.DDIM(n_steps=5), iv.Problem(prior))
