"""`check_solver` finds out what breaks the contract of a solver, by the name of what is broken."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

import invsolve as iv
from invsolve.core.settings import Count
from invsolve.testing import check_solver

NOTES: list[torch.Tensor] = []


@dataclass(frozen=True)
class Pull(iv.Solver):
    """A right solver, of which each test breaks one thing: noise that fades, and a pull to the first guess."""

    n_steps: Count = 6

    name = "pull"
    cite = "nobody"
    needs = iv.Needs(likelihood=True)

    def steps(self, problem):
        return self.n_steps

    def init(self, problem, n, rng):
        return iv.State(rng.normal(problem.empty(n)), memory={"sum": problem.empty(n).zero_()})

    def step(self, problem, state, rng):
        now = problem.prior.schedule.grid(self.n_steps)[state.k]
        x0 = problem.prior.denoise(state.x, max(now, 0.05))
        guess = problem.initial_estimate.expand_as(x0)
        total = state.memory["sum"] + x0
        x = 0.5 * x0 + 0.4 * guess + 0.1 * total / (state.k + 1) + 0.01 * rng.normal(x0)
        return iv.State(x, state.k + 1, memory={"sum": total}), iv.Info(x0)


class OverBatch(Pull):
    def step(self, problem, state, rng):
        state, info = super().step(problem, state, rng)
        return replace(state, x=state.x / (1 + state.x.abs().mean())), info


class GlobalNoise(Pull):
    def step(self, problem, state, rng):
        state, info = super().step(problem, state, rng)
        return replace(state, x=state.x + 0.01 * torch.randn_like(state.x)), info


class InPlace(Pull):
    def step(self, problem, state, rng):
        state.x.mul_(0.99)
        return super().step(problem, state, rng)


class Remembers(Pull):
    """Keeps what the next step needs outside the state."""

    def init(self, problem, n, rng):
        NOTES.clear()
        return super().init(problem, n, rng)

    def step(self, problem, state, rng):
        state, info = super().step(problem, state, rng)
        NOTES.append(state.x)
        return replace(state, x=state.x + 0.01 * len(NOTES)), info


class StopsAll(Pull):
    """One bad row ends the batch."""

    def step(self, problem, state, rng):
        new, info = super().step(problem, state, rng)
        well = bool(torch.isfinite(new.x).all()) and float(new.x.abs().max()) < 1e100
        return (new if well else replace(new, x=state.x)), info


class Undemanding(Pull):
    needs = iv.Needs(cost=False)


class Miscounts(Pull):
    def step(self, problem, state, rng):
        state, info = super().step(problem, state, rng)
        return replace(state, k=state.k + 1), info


class Divides(Pull):
    def step(self, problem, state, rng):
        alpha, _ = problem.prior.schedule(problem.prior.schedule.grid(self.n_steps)[state.k])
        state, info = super().step(problem, state, rng)
        return replace(state, x=state.x + 0.0 / alpha), info


class AlwaysDouble(Pull):
    def step(self, problem, state, rng):
        state, info = super().step(problem, state, rng)
        return (replace(state, x=state.x.double()) if state.k == self.n_steps else state), info


def test_a_right_solver_passes():
    check_solver(Pull()).raise_if_failed()


@pytest.mark.parametrize(
    ("kind", "finding"),
    [
        (OverBatch, "a sample does not depend on the chunk (1)"),
        (GlobalNoise, "global generator untouched"),
        (GlobalNoise, "the same again"),
        (InPlace, "a step leaves its state alone"),
        (Remembers, "a step taken again gives the same"),
        (Remembers, "an interrupted run goes on bit for bit"),
        (StopsAll, "an item that overflows leaves the others alone"),
        (Undemanding, "says what it needs"),
        (Miscounts, "counts its steps"),
        (Divides, "schedules"),
        (AlwaysDouble, "follows the prior's precision"),
    ],
)
def test_a_broken_solver_is_found_out(kind, finding):
    report = check_solver(kind())
    assert finding in [check.name for check in report.failures], str(report)
