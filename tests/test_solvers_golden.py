"""One-to-one agreement with numbers recorded from the authors' own implementations."""

from __future__ import annotations

import golden
import pytest
import torch
from golden import SHAPE, close, draw, likelihood, load

from invsolve import NoiseSource, Problem, Solver, State, Unknown, Unknowns, costs, solvers
from invsolve.core.solver import Info


def run(problem: Problem, solver: Solver, n: int, rng: NoiseSource) -> tuple[list[State], list[Info]]:
    state = solver.init(problem, n, rng)
    states, infos = [state], []
    with torch.no_grad():
        for _ in range(solver.steps(problem)):
            state, info = solver.step(problem, state, rng)
            states.append(state)
            infos.append(info)
    return states, infos


@pytest.mark.parametrize(
    ("name", "operator", "solver"),
    [
        (
            "ndtm_a_bicubic_guided",
            golden.bicubic,
            solvers.NDTM(n_steps=8, n_inner=3, gamma=4.0, eta=0.0, t_start=0.4, weight=1.0, weights="zero"),
        ),
        (
            "ndtm_b_inpaint_guided",
            lambda: golden.masked("mask_in2"),
            solvers.NDTM(n_steps=8, n_inner=2, gamma=4.0, eta=0.0, t_start=0.6, weight=50.0, weights="ddim"),
        ),
    ],
)
def test_ndtm_matches_official(name, operator, solver):
    want = load(name)
    n = len(want["y"])
    problem = Problem(golden.prior(), likelihood(operator(), want["y"]))
    states, infos = run(problem, solver, n, golden.replay([draw(k, (n, *SHAPE)) for k in range(9)]))
    close(states[0].x, want["xT"], 1e-9)
    close(infos[0].x0, want["x0_pred_first"], 1e-9)
    for index, x in zip(want["state_index"].tolist(), want["x_states"], strict=True):
        assert min((s.x - x).abs().max().item() for s in states) <= 1e-9, index
    close(states[-1].x, want["result"], 1e-9)


def test_blind_ndtm_matches_official():
    want = load("ndtm_blind_fast")
    n = len(want["y"])
    unknowns = Unknowns({"kernel": Unknown((64,), "softmax", lr=0.01)})
    cost = costs.GaussianLikelihood(golden.unknown_blur((8, 8)), (want["y"].double() + 1) / 2, 0.005)
    solver = solvers.NDTM(
        n_steps=8, n_inner=3, gamma=1.0, eta=0.7, weight=1.0, weights="zero", start="random", lr=0.005
    )
    problem = Problem(golden.prior(), cost, unknowns)
    draws = [draw(0, (n, *SHAPE)), draw(1, (n, 64)), *[draw(k, (n, *SHAPE)) for k in range(2, 10)]]
    states, _ = run(problem, solver, n, golden.replay(draws))
    close(states[0].x, want["xT"], 1e-9)
    for k, logits in enumerate(want["kernel_logits_after_step"]):
        close(states[k + 1].theta["kernel"], logits, 1e-9)
    close(states[-1].x, want["result"], 1e-9)


def test_dps_ddim_form_matches_official():
    want = load("dps_oc_original_true_inpaint")
    problem = Problem(golden.prior(), likelihood(golden.masked("mask_in2").select(torch.tensor([0])), want["y"]))
    solver = solvers.DPS(form="ddim", n_steps=20, zeta=1.0, eta=0.5)
    states, infos = run(problem, solver, 1, golden.replay([draw(k, (1, *SHAPE)) for k in range(21)]))
    close(states[0].x, want["xT"], 1e-9)
    close(infos[-1].x0, want["x0_pred_last"], 1e-9)
    close(states[-1].x, want["result"], 1e-9)


def test_dps_ancestral_form_matches_official():
    want = load("dps_orig_sr_12")
    times = tuple((index + 1) / 1000 for index in reversed(want["timestep_map"].tolist()))
    problem = Problem(golden.prior(variance=True), likelihood(golden.bicubic(), want["y"], 0.025))
    solver = solvers.DPS(form="ancestral", zeta=0.3, times=(*times, 0.0))
    # the official loop draws noise of y's shape after each step and does not use it
    draws = [draw(0, (1, *SHAPE)), *[draw(1 + 2 * k, (1, *SHAPE)) for k in range(12)]]
    states, infos = run(problem, solver, 1, golden.replay(draws))
    norms = torch.stack([info.energy.sqrt()[0] for info in infos if info.energy is not None])
    close(norms, want["residual_norms"], 1e-9)
    close(states[-1].x, want["result"], 1e-9)


def test_reddiff_matches_official():
    want = load("reddiff_inpaint_sigx0_0")
    problem = Problem(golden.prior(), likelihood(golden.masked("mask_in2").select(torch.tensor([0])), want["y"]))
    solver = solvers.REDdiff(n_steps=10, lam=0.25, lr=0.5, sigma_x0=0.0)
    states, _ = run(problem, solver, 1, golden.replay([draw(k, (1, *SHAPE)) for k in range(20)]))
    close(states[-1].x, want["result"], 1e-9)
    close(states[-1].memory["mu"], want["mu_final"], 1e-9)
