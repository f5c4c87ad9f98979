"""Guidance scale rules in solvers of inverse problems."""

from __future__ import annotations

import pytest
import torch
from toy import gaussian, likelihood

import invsolve as iv
from invsolve import solvers
from invsolve.core.schedule import Step
from invsolve.solvers.steps.scales import AdaptiveScale, FixedScale, ThresholdScale, geoguide
from invsolve.solvers.steps.updates import score_shift

RULES = {
    "dps": lambda rule: solvers.DPS(n_steps=8, zeta=0.3, scale=rule),
    "dps ddim": lambda rule: solvers.DPS("ddim", n_steps=8, zeta=0.3, scale=rule),
    "freedom": lambda rule: solvers.FreeDoM(n_steps=8, zeta=0.3, rounds=2, scale=rule),
    "lgd-mc": lambda rule: solvers.LGDMC(n_steps=8, n_draws=2, weight=0.3, scale=rule),
    "mpgd": lambda rule: solvers.MPGD(n_steps=8, zeta=0.3, scale=rule),
    "ndtm": lambda rule: solvers.NDTM(n_steps=6, n_inner=2, optimizer="gradient", lr=0.3, start="random", scale=rule),
    "ftm": lambda rule: solvers.FTM(n_steps=6, n_inner=2, optimizer="gradient", lr=0.3, scale=rule),
    "ct-dtm": lambda rule: solvers.CTDTM(
        n_steps=6, process="ode", control="linear", n_inner=1, optimizer="gradient", lr=0.3, start="random", scale=rule
    ),
}


def length(name: str, step: Step) -> float | None:
    """How far a guidance of length 0.5 moves the state, where it has a closed form."""
    reach = 0.5 * (step.sigma_t**2 - (step.alpha_t / step.alpha_s) ** 2 * step.sigma_s**2)
    weighed = {"dps": 1.0, "dps ddim": 1.0, "lgd-mc": score_shift(step, 1.0), "mpgd": step.alpha_s, "ct-dtm": reach}
    return 0.15 * weighed[name] if name in weighed else None


@pytest.fixture(scope="module")
def problem() -> iv.Problem:
    return iv.Problem(gaussian(), likelihood())


@pytest.mark.parametrize("name", RULES)
def test_a_fixed_length_moves_every_sample_by_that_length(name: str, problem: iv.Problem) -> None:
    """The same step with scale 0 is the unguided one; their distance is weight * length, whatever the gradient."""
    ends = []
    for rule in (geoguide(0.0), geoguide(0.5)):
        solver = RULES[name](rule)
        state, rng = solver.init(problem, 3, iv.Rng(2)), iv.Rng(2)
        state, _ = solver.step(problem, state, rng)
        ends.append(state.x)
    moved = (ends[1] - ends[0]).flatten(1).norm(dim=1)
    exact = length(name, RULES[name](geoguide(0.5)).path(problem)[0])
    assert bool((moved > 0).all())
    if exact is not None:
        assert moved.tolist() == pytest.approx([exact] * 3, rel=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_adaptive_scaling_keeps_samples_apart_and_improves_the_misfit(name: str, problem: iv.Problem) -> None:
    solver = RULES[name](AdaptiveScale(0.3))
    together = iv.solve(problem, solver, samples=2)
    apart = iv.solve(problem, solver, samples=2, microbatch=1)
    assert torch.allclose(together.samples, apart.samples, rtol=1e-9, atol=1e-12)
    free = iv.solve(problem, RULES[name](AdaptiveScale(0.0)), samples=2)
    assert together.energy.mean() < free.energy.mean()


def test_a_checkpoint_carries_the_running_average(problem: iv.Problem, tmp_path) -> None:
    solver = RULES["dps"](AdaptiveScale(1.0))
    whole = iv.solve(problem, solver).samples

    class Stop(Exception):
        pass

    def stop(progress: iv.Progress) -> None:
        if progress.step == 5:
            raise Stop

    with pytest.raises(Stop):
        iv.solve(problem, solver, checkpoint=tmp_path / "c", checkpoint_seconds=0.0, callbacks=[stop])
    assert torch.equal(iv.solve(problem, solver, checkpoint=tmp_path / "c").samples, whole)


@pytest.mark.parametrize("name", RULES)
def test_rules_that_do_more_than_lengths_are_refused(name: str) -> None:
    with pytest.raises(iv.InputError, match="lengths"):
        RULES[name](ThresholdScale(1.0))


@pytest.mark.parametrize("solver", [solvers.NDTM, solvers.FTM, solvers.CTDTM])
def test_only_the_gradient_optimizer_takes_a_rule(solver) -> None:
    with pytest.raises(iv.InputError, match="optimizer='gradient'"):
        solver(scale=FixedScale(1.0))


@pytest.mark.parametrize("name", ["lgd-mc", "mpgd", "ndtm", "ftm", "ct-dtm"])
def test_a_fixed_scale_of_one_is_the_plain_gradient(name: str, problem: iv.Problem) -> None:
    """Of solvers that do not divide by |r|."""
    scaled, plain = (iv.solve(problem, RULES[name](rule), samples=2).samples for rule in (FixedScale(1.0), None))
    assert torch.allclose(scaled, plain, rtol=1e-9, atol=1e-12)
