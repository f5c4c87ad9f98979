"""Solvers of linear-Gaussian problems: agreement with recorded runs, formulas, calls, capabilities."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import exact
import golden
import pytest
import torch
import toy
from golden import SHAPE, close, draw, likelihood, load
from torch import Tensor

import invsolve as iv
from invsolve import Problem, costs, operators, priors, solvers
from invsolve.core.presets import published
from invsolve.solvers import cpigdm
from invsolve.solvers.steps import conjugate_integrator as conjugate

LINEAR = ["c-pigdm", "ddnm", "ddrm", "diffpir", "mmps", "pigdm", "pnp-dm", "tmpd"]


def test_ddrm_matches_official():
    """The official loop draws three sets of coefficients a step, of which each is used where its case applies."""
    want, operator = load("ddrm_inpaint_compact_inp"), golden.masked("mask_inp")
    kept = operator.spectrum(torch.empty(0)) > 0
    order, m = torch.cat([kept.nonzero()[:, 0], (~kept).nonzero()[:, 0]]), int(kept.sum())

    def image(coefficients: Tensor) -> Tensor:
        return torch.zeros(1, 768).double().index_copy(1, order, coefficients.double()).view(1, *SHAPE)

    draws = [image(draw(0, (1, 768)))]
    for k in range(10):
        free, known = draw(1 + 3 * k, (1, 768)), draw(3 + 3 * k, (1, m))
        draws.append(image(torch.cat([known, free[:, m:]], 1)))
    problem = Problem(golden.prior(), likelihood(operator, image(torch.cat([want["y"], torch.zeros(1, 768 - m)], 1))))
    states = exact.run(problem, solvers.DDRM(n_steps=10), 1, golden.replay(draws))
    close(states[0].x, want["x_states"][0], 1e-9)
    close(states[1].x, want["x_states"][1], 1e-9)
    close(states[-1].x, want["result"], 1e-9)


def test_noiseless_pigdm_matches_official():
    want = load("pgdm_bicubic_eta1")
    problem = Problem(golden.prior(), likelihood(golden.bicubic(), want["y"]))
    solver = solvers.PiGDM(n_steps=10, form="noiseless")
    states = exact.run(problem, solver, 1, golden.replay([draw(k, (1, *SHAPE)) for k in range(11)]))
    close(states[0].x, want["x_states"][0], 1e-9)
    close(states[-1].x, want["result"], 1e-9)


def stored(want: dict[str, Tensor]) -> tuple[conjugate.Interval, ...]:
    """The steps of a recorded run with the integrals it stored, which are those from 0 to each time."""
    own = conjugate.intervals(5, 0.0, 15.0, 0.4, 0.001)
    steps = []
    for k, step in enumerate(own):
        y, s, j = (want[name].double()[k + 1] - want[name].double()[k] for name in ("Phiy", "Phis", "Phij"))
        b = 0.1 * step.s + 9.95 * step.s**2
        null, inside = math.exp(-b / 2), math.exp(7.0 * b)
        steps.append(
            step._replace(
                y=inside * float(y),
                eps=null * float(s[0]),
                eps_p=inside * float(s.sum()),
                g=null * float(j[0]),
                g_p=inside * float(j.sum()),
            )
        )
    return tuple(steps)


@pytest.mark.parametrize(("source", "tolerance"), [("stored", 1e-7), ("own", 1e-4)])
def test_cpigdm_matches_official(source, tolerance, monkeypatch):
    want = load("cpgdm_w15_lam0")
    problem = Problem(golden.prior(), likelihood(golden.bicubic(), want["y"]))
    if source == "stored":
        monkeypatch.setattr(cpigdm, "intervals", lambda *_: stored(want))
    solver = solvers.CPiGDM(n_steps=5, lam=0.0, w=15.0, t_start=0.4, times="index")
    states = exact.run(problem, solver, 1, golden.replay([draw(0, (1, *SHAPE))]))
    for k, x in zip((0, 1, 2), want["x_states"], strict=True):
        close(states[k].x, x, tolerance)
    close(states[-1].x, want["result"], tolerance)


@pytest.mark.parametrize("form", ["noiseless", "noisy"])
@pytest.mark.parametrize("lam", [-0.4, 0.0])
def test_cpigdm_makes_the_published_update(form, lam):
    """In the absolute coordinates in which it was published, its integrals by the midpoint rule in sqrt(t)."""
    prior, likelihood = toy.gaussian(schedule=iv.VPSchedule()), toy.likelihood(1, sigma=0.01)
    a = exact.matrix(likelihood.operator)
    plus = torch.linalg.pinv(a)
    p, q = plus @ a, plus @ plus.T
    w, sigma, n = 4.0, 0.01 if form == "noisy" else 0.0, 4
    times = [0.4 + (0.001 - 0.4) * k / n for k in range(n + 1)]

    def k123(t):
        b = 0.1 * t + 9.95 * t * t
        k1, k2 = lam * t + b / 2, -w * b / 2
        return k1, k2, 0.5 * w * (torch.exp(k1 + k2) - 1) * sigma**2 * torch.log(torch.exp(b) - 1 + 1e-6)

    def phi(t):
        u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000 * math.sqrt(t)
        r = u * u
        b, beta = 0.1 * r + 9.95 * r * r, 0.1 + 19.9 * r
        mu, sd = torch.exp(-b / 2), torch.sqrt(-torch.expm1(-b))
        k1, k2, k3 = k123(r)
        both, inverse = torch.exp(k1 + k2), 1 / (sd + 1e-6)
        rows = [
            -0.5 * w * beta * both * mu,
            0.5 * beta * torch.exp(k1) * inverse,
            0.5 * beta * torch.exp(k1) * (torch.exp(k2) - 1) * inverse - 0.5 * w * beta * sd * both,
            0.5 * w * beta * torch.exp(k1) * sd * mu,
            0.5 * w * beta * sd * torch.exp(k1) * (torch.exp(k2) - 1) * mu,
            -0.5 * beta * w * mu * k3,
            0.5 * beta * k3 * (inverse - w * sd),
            0.5 * w * sd * mu * beta * k3,
        ]
        return torch.stack([(row * 2 * u).mean() * math.sqrt(t) for row in rows])

    def forth(x, t):
        k1, k2, k3 = k123(torch.tensor(t, dtype=torch.float64))
        return k1.exp() * (x + (k2.exp() - 1) * p @ x) + k3 * q @ x

    def plain_back(x, t):
        k1, k2, _ = k123(torch.tensor(t, dtype=torch.float64))
        return (-k1).exp() * (x + ((-k2).exp() - 1) * p @ x)

    def back(x, t):
        z = plain_back(x, t)
        return z - plain_back(k123(torch.tensor(t, dtype=torch.float64))[2] * q @ z, t)

    data = plus @ likelihood.measurement.flatten()
    alpha, sd = prior.schedule(0.4)
    noise = iv.Rng(5).normal(torch.empty(1, *toy.SHAPE).double())
    bar = forth(alpha * data + sd * noise.flatten(), 0.4)
    for t, s in pairwise(times):
        mu, sd = prior.schedule(t)
        x = back(bar, t).requires_grad_()
        with torch.enable_grad():
            eps = prior.eps(x.view(1, *toy.SHAPE), t).flatten()
            (g,) = torch.autograd.grad(eps, x, (data - p @ (x - sd * eps) / mu).detach())
        eps, d = eps.detach(), phi(s) - phi(t)
        bar = bar - lam * bar * (t - s) + d[0] * data + d[1] * eps + d[2] * p @ eps + d[3] * g + d[4] * p @ g
        bar = bar + q @ (d[5] * data + d[6] * eps + d[7] * g)
    solver = solvers.CPiGDM(n_steps=n, lam=lam, w=w, form=form)
    states = exact.run(Problem(prior, likelihood), solver, 1, golden.replay([noise]))
    torch.testing.assert_close(states[-1].x.flatten(), back(bar, 0.001), rtol=0, atol=1e-6)


@pytest.mark.parametrize("lam", [-0.4, 0.0, 0.5])
@pytest.mark.parametrize("start", ["guided", "random"])
def test_continuous_pigdm_makes_the_published_update(lam, start):
    """In the absolute coordinates in which it was published, its integral by the midpoint rule in sqrt(t)."""
    prior, likelihood = toy.gaussian(schedule=iv.VPSchedule()), toy.likelihood(1, sigma=0.01)
    a = exact.matrix(likelihood.operator)
    plus = torch.linalg.pinv(a)
    w, n = 4.0, 4
    times = [0.4 + (0.001 - 0.4) * k / n for k in range(n + 1)]

    def big_b(t):
        return 0.1 * t + 9.95 * t * t

    def phi(t):
        r = ((torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000 * math.sqrt(t)) ** 2
        b, beta = big_b(r), 0.1 + 19.9 * r
        integrand = 0.5 * torch.exp(lam * r + b / 2) * beta / (torch.sqrt(-torch.expm1(-b)) + 1e-6)
        return float((integrand * 2 * r.sqrt()).mean() * math.sqrt(t))

    data = plus @ likelihood.measurement.flatten()
    alpha, sd = prior.schedule(0.4)
    noise = iv.Rng(5).normal(torch.empty(1, *toy.SHAPE).double())
    x = noise.flatten() if start == "random" else alpha * data + sd * noise.flatten()
    bar = math.exp(lam * 0.4 + big_b(0.4) / 2) * x
    for t, s in pairwise(times):
        mu, sd = prior.schedule(t)
        x = (math.exp(-lam * t - big_b(t) / 2) * bar).requires_grad_()
        with torch.enable_grad():
            eps = prior.eps(x.view(1, *toy.SHAPE), t).flatten()
            p = (x - sd * eps) / mu
            (g,) = torch.autograd.grad(p, x, (data - plus @ a @ p).detach())
        guided = 0.5 * w * (0.1 + 19.9 * t) * math.exp(lam * t + big_b(t) / 2) * g * (t - s)
        bar = bar - lam * bar * (t - s) + (phi(s) - phi(t)) * eps.detach() + guided
    solver = solvers.CPiGDM(n_steps=n, lam=lam, w=w, form="pigdm", start=start)
    states = exact.run(Problem(prior, likelihood), solver, 1, golden.replay([noise]))
    want = math.exp(-lam * 0.001 - big_b(0.001) / 2) * bar
    torch.testing.assert_close(states[-1].x.flatten(), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", LINEAR)
def test_every_sample_has_its_own_operator_and_noise_level(name):
    """Masks and noise levels that differ from item to item: each item as if it were alone."""
    mask = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.6
    y = toy.gaussian().sample(3, iv.Rng(2))
    cost = costs.GaussianLikelihood(operators.Inpainting(toy.SHAPE, mask), y, torch.tensor([0.02, 0.1, 0.3]))
    whole = iv.solve(Problem(toy.gaussian(), cost), toy.quick(name), samples=2).samples
    for b in range(3):
        alone = Problem(toy.gaussian(), cost.select(torch.tensor([b])))
        samples = iv.solve(alone, toy.quick(name), samples=2, items=[b]).samples
        torch.testing.assert_close(samples[0], whole[b], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in LINEAR if name not in ("ddrm", "ddnm")])
def test_an_operator_given_by_a_function_serves_as_well_as_its_singular_value_decomposition(name):
    known = toy.likelihood(1)
    function = operators.as_operator(lambda x: known.operator(x), in_shape=toy.SHAPE, linear=True)
    assert not isinstance(function, iv.SVDOperator)
    changes = {"form": "noisy"} if name in ("pigdm", "c-pigdm") else {}
    solver = dataclasses.replace(toy.quick(name), **changes)
    results = [
        iv.solve(Problem(toy.gaussian(), dataclasses.replace(known, operator=operator)), solver).samples
        for operator in (known.operator, function)
    ]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", LINEAR)
def test_every_schedule_is_served(name):
    """Flow and cosine paths begin at pure noise, where alpha = 0."""
    for schedule in (iv.FlowSchedule(), iv.VESchedule(), iv.CosineSchedule(), iv.VPSchedule()):
        problem = Problem(toy.gaussian(schedule=schedule), toy.likelihood(1))
        result = iv.solve(problem, dataclasses.replace(toy.quick(name), n_steps=16), samples=4)
        assert result.ok
        assert (result.mean - problem.prior.posterior(toy.likelihood(1)).mean).abs().mean() < 0.15


@pytest.mark.parametrize("name", LINEAR)
def test_single_precision_agrees_with_double(name):
    results = []
    for dtype in (torch.float64, torch.float32):
        prior = golden.prior()
        prior = priors.NetworkPrior(prior.module.to(dtype), "eps", prior.schedule, shape=SHAPE)
        operator = operators.SuperResolution(SHAPE, 4)
        cost = costs.GaussianLikelihood(operator, operator((load("problem")["x0"][:1].double() + 1) / 2), 0.05)
        result = iv.solve(Problem(prior, cost), toy.quick(name))
        assert result.samples.dtype == dtype
        results.append(result.samples.double())
    assert (results[0] - results[1]).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("solver", "forwards", "backwards"),
    [
        (solvers.CPiGDM(n_steps=7), 7, 7),
        (solvers.CPiGDM(n_steps=7, form="noisy"), 7, 7),
        (solvers.DDNM(n_steps=10), 10, 0),
        (solvers.DDNM(n_steps=10, noisy=False), 10, 0),
        (solvers.DDRM(n_steps=10), 10, 0),
        (solvers.DiffPIR(n_steps=10), 10, 0),
        (solvers.MMPS(n_steps=10, n_inner=3), 10, 30),
        (solvers.PiGDM(n_steps=10), 10, 10),
        (solvers.PiGDM(n_steps=10, form="noiseless"), 10, 10),
        (solvers.PnPDM(n_steps=4, n_inner=5), 20, 0),
        (solvers.TMPD(n_steps=10), 10, 20),
    ],
)
def test_network_calls_are_at_the_minimum(solver, forwards, backwards):
    stats = iv.solve(Problem(toy.gaussian(), toy.likelihood(2)), solver, samples=2, microbatch=3).stats
    assert (stats.network_forwards, stats.network_backwards) == (forwards, backwards)


class Untouched(iv.Prior):
    """A prior that must not be called."""

    shape = toy.SHAPE
    schedule = iv.DDPMSchedule()

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        raise AssertionError("work was done")


@pytest.mark.parametrize("name", LINEAR)
def test_a_missing_capability_is_named_before_any_work(name):
    nonlinear = operators.as_operator(lambda x: x**2, in_shape=toy.SHAPE)
    blurred = operators.as_operator(lambda x: x.flip(-1), in_shape=toy.SHAPE, linear=True)
    y = torch.rand(1, *toy.SHAPE)
    cases = {
        "linear operator": costs.GaussianLikelihood(nonlinear, y, 0.1),
        "likelihood": costs.FunctionCost(lambda x: x.flatten(1).sum(1)),
        "cost": None,
    }
    if name in ("ddrm", "ddnm"):
        cases["singular value decomposition"] = costs.GaussianLikelihood(blurred, y, 0.1)
    for message, cost in cases.items():
        with pytest.raises(iv.CapabilityError, match=message):
            iv.solve(Problem(Untouched(), cost), toy.quick(name))


@pytest.mark.parametrize(
    "make",
    [
        lambda: solvers.DDRM(eta=1.5),
        lambda: solvers.DDRM(start="random"),
        lambda: solvers.DDNM(eta=-0.1),
        lambda: solvers.PiGDM(form="exact"),
        lambda: solvers.PiGDM(prior_std=0.0),
        lambda: solvers.CPiGDM(t_start=0.1, t_end=0.2),
        lambda: solvers.CPiGDM(form="exact"),
        lambda: solvers.DiffPIR(zeta=2.0),
        lambda: solvers.DiffPIR(lam=0.0),
        lambda: solvers.DiffPIR(n_steps=0),
        lambda: solvers.DiffPIR(spacing="log"),
        lambda: solvers.MMPS(n_inner=0),
        lambda: solvers.PnPDM(rho_end=20.0),
        lambda: solvers.PnPDM(decay=0.0),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(iv.InputError):
        make()


@pytest.mark.parametrize("name", sorted(solvers.SOLVERS))
def test_presets_build_and_name_their_source(name):
    kind = solvers.SOLVERS[name]
    for preset, (settings, source) in published(name).items():
        solver = kind.preset(preset)
        assert source
        assert all(getattr(solver, k) == (tuple(v) if isinstance(v, list) else v) for k, v in settings.items())
    with pytest.raises(iv.InputError, match="preset"):
        kind.preset("ffhq256/super")


def test_presets_hold_the_published_settings_and_take_changes():
    solver = solvers.NDTM.preset("ffhq256/superres4", n_steps=100)
    assert (solver.n_steps, solver.n_inner, solver.eta, solver.t_start) == (100, 5, 0.7, 0.4)
    assert (solver.weight, solver.weights, solver.gamma) == (50.0, "ddim", 1.0)
    assert solvers.REDdiff.preset("imagenet256/superres4").lam == 0.4
    spreads = {name: solvers.REDdiff.preset(name).sigma_x0 for name in published("red-diff")}
    assert {name for name, sigma in spreads.items() if sigma == 0.0} == {
        "ffhq256/inpaint", "imagenet256/inpaint", "ffhq256/deblur-nonlinear",
    }  # fmt: skip
    assert solvers.CPiGDM.preset("ffhq256/superres4").w == 4.0
