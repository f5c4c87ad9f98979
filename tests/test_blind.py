"""Unknown operator parameters: every gradient solver estimates them beside the image, each sample for itself."""

from __future__ import annotations

import golden
import pytest
import torch
import toy
from golden import SHAPE, close, draw, load
from torch import Tensor

import invsolve as iv
from invsolve import costs, solvers
from invsolve.core.operator import EMPTY, Params

GAIN = 0.6


class Gain(iv.Operator):
    """y = gain x with an unknown positive gain."""

    in_shape = out_shape = toy.SHAPE

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return theta["gain"][:, :, None, None] * x


def problem(items: int = 2, **block) -> iv.Problem:
    clean = toy.gaussian().sample(items, iv.Rng(1))
    y = GAIN * clean + 0.02 * iv.Rng(2).normal(clean)
    unknown = iv.Unknown((1,), "softplus", torch.tensor([1.0]), **{"lr": 0.05, **block})  # softplus(1) = 1.31
    return iv.Problem(toy.gaussian(), costs.GaussianLikelihood(Gain(), y, 0.02), iv.Unknowns({"gain": unknown}))


SOLVERS = {
    "ndtm": solvers.NDTM(n_steps=40, n_inner=3, weight=10.0, lr=0.05, start="random", weights="ddim"),
    "ct-dtm": solvers.CTDTM(
        n_steps=40, n_inner=3, weight=10.0, lr=0.1, start="random", process="ode", transient_weight=0.1
    ),
    "ftm": solvers.FTM(n_steps=40, n_inner=3, weight=10.0, lr=0.05),
    "dps": solvers.DPS(n_steps=125, zeta=0.3),
    "red-diff": solvers.REDdiff(n_steps=125, lr=0.05, lam=1.0),
    "dmplug": solvers.DMPlug(n_iterations=100, lr=0.05),
}


@pytest.mark.parametrize("blind", ["joint", "alternating"])
@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_the_gain_is_found_and_network_calls_stay_the_same(name, blind):
    p = problem()
    solver = type(SOLVERS[name])(**{**SOLVERS[name].__dict__, "blind": blind})
    result = iv.solve(p, solver)
    assert result.ok
    # the prior knows how bright images are, so the gain is identifiable; it starts at 1.31
    assert ((result.theta["gain"] - GAIN).abs() < 0.2).all(), result.theta["gain"].flatten()
    forwards, backwards = {
        "ndtm": (160, 120), "ct-dtm": (160, 120), "ftm": (160, 120), "dps": (125, 125), "red-diff": (125, 0),
        "dmplug": (300, 300),
    }[name]  # fmt: skip
    assert (result.stats.network_forwards, result.stats.network_backwards) == (forwards, backwards)


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_joint_and_alternating_are_different_methods_and_each_sample_is_its_own(name):
    p, settings = problem(3), {**SOLVERS[name].__dict__}
    settings["n_iterations" if name == "dmplug" else "n_steps"] = 6
    joint, turns = (type(SOLVERS[name])(**{**settings, "blind": blind}) for blind in ("joint", "alternating"))
    a, b = iv.solve(p, joint), iv.solve(p, turns)
    assert not torch.allclose(a.samples, b.samples, atol=1e-6)
    part = iv.solve(p.select(torch.tensor([1])), turns, items=[1])
    torch.testing.assert_close(part.samples, b.samples[1:2], rtol=0, atol=1e-9)
    torch.testing.assert_close(part.theta["gain"], b.theta["gain"][1:2], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_a_blind_run_resumes_bit_for_bit(name, tmp_path):
    settings = {**SOLVERS[name].__dict__, "n_iterations" if name == "dmplug" else "n_steps": 6}
    p, solver, file = problem(), type(SOLVERS[name])(**settings), tmp_path / "run.pt"

    def interrupt(progress: iv.Progress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        iv.solve(p, solver, callbacks=[interrupt], checkpoint=file, checkpoint_seconds=0.0)
    resumed, whole = iv.solve(p, solver, checkpoint=file, checkpoint_seconds=0.0), iv.solve(p, solver)
    assert torch.equal(resumed.samples, whole.samples)
    assert torch.equal(resumed.theta["gain"], whole.theta["gain"])


def test_a_penalty_that_is_not_a_samples_own_and_a_negative_step_are_refused():
    with pytest.raises(iv.ShapeError, match=r"penalty on gain.*shape \[2\], got \[\]"):
        iv.solve(problem(penalty=lambda gain: gain.sum()), toy.quick("dps"))
    with pytest.raises(iv.InputError, match="lr"):
        iv.Unknown((1,), lr=-0.1)


def test_a_penalty_pulls_the_parameter():
    free = iv.solve(problem(), SOLVERS["ndtm"]).theta["gain"]
    strict = problem(penalty=lambda gain: 1e4 * (gain - 1.0).square().sum(1))
    assert ((iv.solve(strict, SOLVERS["ndtm"]).theta["gain"] - 1.0).abs() < 0.05).all()
    assert (free < 0.9).all()


@pytest.mark.parametrize("name", ["tds", "daps", "mpgd", "freedom", "lgd-mc", "scg", "calibrated"])
def test_solvers_that_cannot_say_so_before_any_work(name):
    with pytest.raises(iv.CapabilityError, match="unknown operator parameters"):
        iv.solve(problem(), toy.quick(name))
    with pytest.raises(iv.CapabilityError, match="known operator"):
        iv.solve(problem(), solvers.NDTM(optimizer="gauss-newton", start="random"))


def test_blind_dmplug_matches_official():
    want = load("dmplug_blind_oc")
    unknowns = iv.Unknowns({"kernel": iv.Unknown((64,), "softmax", lr=0.1)})
    cost = costs.GaussianLikelihood(golden.unknown_blur((8, 8)), (want["y"].double() + 1) / 2, 0.005)
    p = iv.Problem(golden.prior(), cost, unknowns)
    solver, rng = solvers.DMPlug(n_iterations=3), golden.replay([draw(0, (1, *SHAPE)), draw(1, (1, 64))])
    state = solver.init(p, 1, rng)
    for k in range(3):
        with torch.no_grad():
            state, info = solver.step(p, state, rng)
        close(state.x, want["x_per_iter"][k], 1e-9)
        close(state.memory["z"], want["Z_after"][k], 1e-9)
        close(state.theta["kernel"], want["kernel_logits_after"][k], 1e-9)
        assert info.energy is not None
        close(info.energy / 768, want["losses"][k : k + 1], 1e-9)
    close(state.x, want["result"], 1e-9)
