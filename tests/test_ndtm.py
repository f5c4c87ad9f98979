"""Trajectory matching: the inner problem, its limits, continuous time and flows."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import exact
import pytest
import torch
import toy
from torch import Tensor

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.solvers.steps.control import control_of
from invsolve.solvers.steps.updates import ddim


def problem(items: int = 2, schedule: iv.Schedule | None = None) -> iv.Problem:
    return iv.Problem(toy.gaussian(schedule=schedule), toy.likelihood(items))


def one_step(solver: iv.Solver, p: iv.Problem, x: Tensor, k: int = 0) -> tuple[iv.State, Tensor]:
    with torch.no_grad():
        state, info = solver.step(p, iv.State(x, k), iv.Rng(9))
    return state, info.extra["control"]


def ndtm(**options) -> solvers.NDTM:
    return solvers.NDTM(**{"n_steps": 10, "n_inner": 4, "weights": "exact", "weight": 5.0, "eta": 0.5, **options})


def test_gamma_may_be_a_number_a_tensor_or_a_function_and_the_aggregate_any_map():
    p = problem()
    samples = iv.solve(p, ndtm(gamma=0.5)).samples
    for other in (
        {"gamma": torch.full(toy.SHAPE, 0.5)},
        {"gamma": lambda t: 0.5},
        {"gamma": 0.5, "aggregate": lambda x, u: x + u},
    ):
        torch.testing.assert_close(iv.solve(p, ndtm(**other)).samples, samples, rtol=0, atol=1e-12)
    masked = torch.zeros(toy.SHAPE)
    masked[:, :2] = 1.0
    x = p.empty(2).normal_(generator=torch.Generator().manual_seed(0))
    state, u = one_step(ndtm(gamma=masked), p, x, 3)
    assert (u[:, :, 2:] == 0).all()
    assert (u[:, :, :2] != 0).all()
    assert torch.isfinite(state.x).all()
    twice = one_step(ndtm(aggregate=lambda x, u: x + 2 * u), p, x, 3)[0].x
    torch.testing.assert_close(twice, one_step(ndtm(gamma=2.0, weights="exact"), p, x, 3)[0].x, rtol=0, atol=1e-9)


def cost_at(solver: solvers.NDTM, p: iv.Problem, x: Tensor, u: Tensor, k: int) -> Tensor:
    """J, written out once more."""
    now = solver.path(p)[k]
    w_s, w_c, _ = solver.transient_weights(p.prior.schedule, now)
    free, moved = p.prior.predict(x, now.t), p.prior.predict(x + solver.gamma * u, now.t)
    terminal = (p.residual(moved.x0) ** 2).flatten(1).sum(1)
    score = ((free.eps - moved.eps) ** 2).flatten(1).sum(1)
    return solver.weight * terminal + w_s * score + w_c * ((solver.gamma * u) ** 2).flatten(1).sum(1)


def best_cost(solver: solvers.NDTM, p: iv.Problem, x: Tensor, k: int) -> Tensor:
    """min J of a Gaussian prior, where J is quadratic: one dense Newton step."""

    def flat(u: Tensor) -> Tensor:
        return cost_at(solver, p, x[:1], u.view(1, *toy.SHAPE), k)[0]

    zero = torch.zeros(48, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(flat, zero)
    gradient = torch.autograd.functional.jacobian(flat, zero)
    assert isinstance(hessian, Tensor)
    assert isinstance(gradient, Tensor)
    return flat(-torch.linalg.solve(hessian + 1e-12 * torch.eye(48), gradient))


@pytest.mark.parametrize("weights", ["zero", "exact"])
@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"optimizer": "gauss-newton", "n_inner": 1, "lr": 1.0, "n_cg": 60}, 1e-8),
        ({"optimizer": "gauss-newton", "n_inner": 4, "lr": 1.0, "n_cg": 6}, 1e-2),
        ({"optimizer": "lbfgs", "n_inner": 25, "lr": 0.05}, 1e-2),
        ({"optimizer": "adam", "n_inner": 25, "lr": 0.3}, 0.2),
        ({"optimizer": "gradient", "n_inner": 25, "lr": 0.5}, 0.97),
    ],
)
def test_inner_optimisers_descend_to_the_minimum_of_the_cost(options, left, weights):
    if weights == "exact" and options["optimizer"] in ("adam", "gradient"):
        pytest.skip("the transient cost leaves next to nothing to gain here, and fixed steps overshoot it")
    p, k = problem(1), 5
    solver = ndtm(lr_decay="constant", weights=weights, **options)
    x = 0.5 + 0.5 * p.empty(1).normal_(generator=torch.Generator().manual_seed(0))
    _, u = one_step(solver, p, x, k)
    start, best = cost_at(solver, p, x, torch.zeros_like(x), k)[0], best_cost(solver, p, x, k)
    assert cost_at(solver, p, x, u, k)[0] - best <= left * (start - best)


def test_a_sample_at_the_noise_level_stops_and_leaves_the_others_alone():
    p = problem(3)
    x = 0.5 + 0.3 * p.empty(3).normal_(generator=torch.Generator().manual_seed(0))
    floors = p.residual_sq(p.prior.predict(x, ndtm().path(p)[6].t).x0)
    middle = float(floors.sort().values[1].sqrt() / math.sqrt(p.entries) / 0.05)
    stopped, free = ndtm(stop=1.0001 * middle), ndtm()
    u_stopped, u_free = one_step(stopped, p, x, 6)[1], one_step(free, p, x, 6)[1]
    inside = floors <= floors.sort().values[1]
    assert (u_stopped[inside] == 0).all()
    first = one_step(ndtm(n_inner=1), p, x, 6)[1], one_step(ndtm(n_inner=1, stop=1.0001 * middle), p, x, 6)[1]
    torch.testing.assert_close(first[0][~inside], first[1][~inside], rtol=0, atol=1e-12)
    assert (u_free[inside] != 0).any()
    alone = one_step(stopped, p.select(torch.tensor([1])), x[1:2], 6)[1]
    torch.testing.assert_close(alone, u_stopped[1:2], rtol=0, atol=1e-12)
    # a row that ends after some updates keeps the control it had then
    row, path = p.select(torch.tensor([0])), [x[:1] * 0]
    for n in range(1, 6):
        path.append(one_step(ndtm(n_inner=n, lr=0.1, weights="zero"), row, x[:1], 6)[1])
    levels = [
        float((row.residual_sq(row.prior.denoise(x[:1] + u, ndtm().path(p)[6].t)) / row.entries).sqrt()) / 0.05
        for u in path
    ]
    assert levels == sorted(levels, reverse=True)
    far = torch.cat([x[:1], x[1:] + 2.0])  # rows that go on while the first has ended
    late = one_step(ndtm(n_inner=5, lr=0.1, weights="zero", stop=0.5 * (levels[1] + levels[2])), p, far, 6)[1]
    assert (late[1:] - path[2]).abs().min() > 0
    torch.testing.assert_close(late[:1], path[2], rtol=0, atol=1e-12)
    easy = iv.solve(p, ndtm(stop=1e3))
    assert (easy.stats.network_forwards, easy.stats.network_backwards) == (
        10,
        0,
    )  # the one trial is the step's own call
    with pytest.raises(iv.CapabilityError, match="stopping"):
        iv.solve(
            iv.Problem(toy.gaussian(), costs.FunctionCost(lambda x: x.flatten(1).sum(1))),
            ndtm(stop=1.0, start="random"),
        )


def classifier(x: Tensor) -> Tensor:
    """-log p(class 1 | x0) of a logistic classifier of brightness."""
    return torch.nn.functional.softplus(-10 * (x.flatten(1).mean(1) - 0.6))


def test_one_gradient_step_of_the_linear_control_is_classifier_guidance():
    p = iv.Problem(toy.gaussian(), costs.FunctionCost(classifier))
    lr, gamma, weight = 0.07, 1.5, 3.0
    linear = solvers.NDTM(
        n_steps=12, n_inner=1, control="linear", optimizer="gradient", lr=lr, lr_decay="constant", gamma=gamma,
        weight=weight, weights="zero", eta=0.4, start="random",
    )  # fmt: skip
    dps = solvers.DPS(form="ddim", n_steps=12, zeta=lr * gamma**2 * weight, eta=0.4, start="random")
    a, b = (iv.solve(p, s, samples=3) for s in (linear, dps))
    torch.testing.assert_close(a.samples, b.samples, rtol=0, atol=1e-12)
    assert not torch.allclose(b.samples, iv.solve(p, solvers.DDIM(n_steps=12, eta=0.4), samples=3).samples, atol=1e-3)
    # the ancestral form of Dhariwal and Nichol: the mean moves by Var[x_s | x_t] grad log p
    now = linear.path(p)[4]
    variance = (now.sigma_s / now.sigma_t) ** 2 * (now.sigma_t**2 - (now.alpha_t / now.alpha_s) ** 2 * now.sigma_s**2)
    step = solvers.NDTM(
        n_steps=12, n_inner=1, control="linear", optimizer="gradient", lr=variance, lr_decay="constant", eta=1.0,
        start="random",
    )  # fmt: skip
    x = p.empty(2).normal_(generator=torch.Generator().manual_seed(0)).requires_grad_()
    (slope,) = torch.autograd.grad(-classifier(p.prior.denoise(x, now.t)).sum(), x)
    guided = one_step(step, p, x.detach(), 4)[0].x
    plain = one_step(solvers.NDTM(n_steps=12, n_inner=0, control="linear", eta=1.0, start="random"), p, x.detach(), 4)[
        0
    ].x
    torch.testing.assert_close(guided - plain, variance * slope, rtol=0, atol=1e-12)


def test_one_full_step_of_the_continuous_linear_control_adds_the_classifier_to_the_score():
    p = iv.Problem(toy.gaussian(), costs.FunctionCost(classifier))
    options = {"n_steps": 12, "control": "linear", "optimizer": "gradient", "lr": 1.0, "start": "random"}
    x = p.empty(2).normal_(generator=torch.Generator().manual_seed(0)).requires_grad_()
    for process, share in (("sde", 1.0), ("ode", 0.5)):
        solver = solvers.CTDTM(n_inner=1, weight=2.0, process=process, **options)
        now = solver.path(p)[5]
        (slope,) = torch.autograd.grad(-2.0 * classifier(p.prior.denoise(x, now.t)).sum(), x)
        guided, u = one_step(solver, p, x.detach(), 5)
        torch.testing.assert_close(u, slope, rtol=0, atol=1e-12)
        plain = one_step(solvers.CTDTM(n_inner=0, process=process, **options), p, x.detach(), 5)[0].x
        noise = now.sigma_t**2 - (now.alpha_t / now.alpha_s) ** 2 * now.sigma_s**2
        torch.testing.assert_close(guided.x - plain, share * noise * slope, rtol=0, atol=1e-12)


def test_the_estimate_control_is_rb_modulation_and_never_differentiates_the_network():
    p = problem()
    solver = ndtm(control="estimate", weights="zero", optimizer="gradient", n_inner=1, lr=0.05, lr_decay="constant")
    x = p.empty(2).normal_(generator=torch.Generator().manual_seed(0))
    now = solver.path(p)[4]
    free = p.prior.predict(x, now.t)
    pulled = free.x0 + 0.05 * 5.0 * 2 * p.linear_data.operator.adjoint(p.residual(free.x0))
    want = ddim(now, 0.5, pulled, free.eps, iv.Rng(9))
    torch.testing.assert_close(one_step(solver, p, x, 4)[0].x, want, rtol=0, atol=1e-12)
    stats = iv.solve(p, ndtm(control="estimate", n_inner=7)).stats
    assert (stats.network_forwards, stats.network_backwards) == (10, 0)


def test_steps_at_strong_noise_do_without_the_jacobian_and_are_those_of_the_estimate_control():
    p, x = problem(), problem().empty(2).normal_(generator=torch.Generator().manual_seed(0))
    solver = ndtm(jacobian_below=1.0)
    ratios = [step.sigma_t / step.alpha_t for step in solver.path(p)]
    noisy = sum(ratio > 1.0 for ratio in ratios)
    assert 0 < noisy < len(ratios)
    for k, same in ((0, ndtm(control="estimate")), (noisy - 1, ndtm(control="estimate")), (noisy, ndtm())):
        assert torch.equal(one_step(solver, p, x, k)[0].x, one_step(same, p, x, k)[0].x)
    stats = iv.solve(p, solver).stats
    exact = len(ratios) - noisy
    assert (stats.network_forwards, stats.network_backwards) == (noisy + 5 * exact, 4 * exact)


@pytest.mark.parametrize(
    ("solver", "forwards", "backwards"),
    [
        (solvers.CTDTM(n_steps=10, n_inner=3), 40, 30),
        (solvers.CTDTM(n_steps=10, n_inner=3, process="ode", method="heun"), 49, 30),
        (solvers.CTDTM(n_steps=10, n_inner=3, control="linear"), 30, 30),
        (solvers.CTDTM(n_steps=10, n_inner=0), 10, 0),
        (solvers.FTM(n_steps=10, n_inner=3), 40, 30),
        (ndtm(optimizer="gauss-newton", n_inner=1, lr=1.0, n_cg=3), 20, 10 * (1 + 2 * 3)),
    ],
)
def test_network_calls_are_at_the_minimum(solver, forwards, backwards):
    stats = iv.solve(problem(), solver, samples=2, microbatch=3).stats
    assert (stats.network_forwards, stats.network_backwards) == (forwards, backwards)


def ends(solver: iv.Solver, schedule: iv.Schedule) -> Tensor:
    return iv.solve(problem(1, schedule), solver, samples=3).samples


@pytest.mark.parametrize("guided", [False, True])
def test_euler_is_of_first_and_heun_of_second_order(guided):
    schedule = iv.VESchedule(5.0, 0.05)
    control = {"control": "linear", "n_inner": 1 if guided else 0, "optimizer": "gradient", "lr": 1.0, "weight": 2.0}
    path = {"process": "ode", "start": "random", "t_start": 0.9, **control}

    def solver(n: int, method: str) -> solvers.CTDTM:
        times = tuple(0.9 + (0.55 - 0.9) * i / n for i in range(n + 1))  # one fixed stretch, then a single last step
        return solvers.CTDTM(times=(*times, 0.0), method=method, **path)

    exact = ends(solver(300 if not guided else 640, "heun" if not guided else "euler"), schedule)
    coarse = [(ends(solver(n, "euler"), schedule) - exact).norm() for n in (10, 20)]
    assert 1.7 < coarse[0] / coarse[1] < 2.3
    if not guided:  # a control found once a step is constant over it, and so of first order
        coarse = [(ends(solver(n, "heun"), schedule) - exact).norm() for n in (10, 20)]
        assert 3.4 < coarse[0] / coarse[1] < 4.6


def test_without_control_the_ode_is_ddim_and_the_sde_has_the_law_of_the_prior():
    p = problem(1)
    ode = iv.solve(p, solvers.CTDTM(n_steps=30, n_inner=0, process="ode", start="random"), samples=4).samples
    torch.testing.assert_close(ode, iv.solve(p, solvers.DDIM(n_steps=30), samples=4).samples, rtol=0, atol=1e-10)
    prior = priors.GaussianPrior(
        torch.full((1, 2, 2), 0.5, dtype=torch.float64), torch.tensor([0.01, 0.04, 0.09, 0.16])
    )
    flat = iv.Problem(prior, costs.FunctionCost(lambda x: 0.0 * x.flatten(1).sum(1)))
    x = iv.solve(flat, solvers.CTDTM(n_steps=200, n_inner=0, start="random"), samples=1000).samples[0].flatten(1)
    # five standard errors (a false alarm in about 1e-6 of 8 comparisons) and a discretisation error of 8%
    assert ((x.mean(0) - 0.5).abs() <= (5 / math.sqrt(1000) + 0.02) * prior._spectrum[0].sqrt()).all()
    assert ((x.var(0) / prior._spectrum[0] - 1).abs() <= 5 * math.sqrt(2 / 1000) + 0.08).all()


def test_continuous_control_is_the_limit_of_ndtm_as_steps_grow():
    """NDTM with gamma = g(t), the diffusion rate, and one gradient step of dt / 2 moves x by -(g^2 dt / 2) w grad Phi.

    As steps grow that is the ODE whose score the linear control moves by -w grad Phi."""
    schedule = iv.VPSchedule()
    gaps = []
    for n in (40, 80, 160):
        options = {
            "n_inner": 1,
            "optimizer": "gradient",
            "weight": 1.0,
            "start": "random",
            "n_steps": n,
            "t_start": 0.8,
        }
        discrete = solvers.NDTM(
            gamma=lambda t: math.sqrt(schedule.beta(t)), lr=0.4 / n, lr_decay="constant", eta=0.0, weights="zero",
            **options,
        )  # fmt: skip
        continuous = solvers.CTDTM(process="ode", control="linear", lr=1.0, **options)
        gaps.append((ends(discrete, schedule) - ends(continuous, schedule)).norm())
    assert gaps[0] > 1e-3
    assert all(1.6 < a / b < 2.5 for a, b in pairwise(gaps)), gaps


class Straight(iv.Prior):
    """x0 = ratio x1: along x_t = ((1 - t) ratio + t) x1 the velocity is (1 - ratio) x1, constant on every line."""

    value_range, bounded, shape = (0.0, 1.0), False, (1, 1, 2)

    def __init__(self, ratio: float) -> None:
        self.ratio, self.schedule = ratio, iv.FlowSchedule()

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def predict(self, x_t: Tensor, t: float) -> iv.Prediction:
        x1 = x_t / ((1 - t) * self.ratio + t)
        return iv.Prediction(self.ratio * x1, x1)

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        return self.predict(x_t, t).x0


def test_flow_matching_equals_its_closed_form_on_straight_lines():
    ratio, y, w_t, w = 0.3, torch.tensor([[[[0.4, 0.9]]]]).double(), 2.0, 0.5
    p = iv.Problem(Straight(ratio), costs.GaussianLikelihood(operators.Denoising((1, 1, 2)), y, 0.1))
    x1 = iv.Rng(0, [(0, 0)]).normal(p.empty(1))
    for n in (1, 7):  # straight lines are integrated exactly by any number of steps
        out = iv.solve(p, solvers.FTM(n_steps=n, n_inner=0)).samples[0]
        torch.testing.assert_close(out, ratio * x1, rtol=0, atol=1e-12)
    # d = x' - x, v = b x', b = (1 - ratio) / m, a = ratio / m, m = (1 - t) ratio + t; J = w_T (y - p)^2 + w b^2 d^2
    for estimate in ("path", "control"):
        x = x1
        for k in range(5):
            t, s = 1 - k / 5, 1 - (k + 1) / 5
            a, b = ratio / ((1 - t) * ratio + t), (1 - ratio) / ((1 - t) * ratio + t)
            slope = a if estimate == "control" else -t * b  # dp / dd; p(d = 0) = a x
            d = w_t * slope * (y - a * x) / (w_t * slope**2 + w * b**2)
            x = x - (t - s) * b * (x + d)
        solver = solvers.FTM(
            n_steps=5, n_inner=12, weight=w_t, transient_weight=w, optimizer="lbfgs", lr=0.1, gamma=2.0,
            estimate=estimate,
        )  # fmt: skip
        torch.testing.assert_close(iv.solve(p, solver).samples[0], x, rtol=0, atol=1e-8)


def test_the_estimate_at_the_controlled_state_would_drive_the_flow_away():
    p = problem(2)
    free, path, control = (
        iv.solve(
            p, solvers.FTM(n_steps=15, n_inner=n, weight=10.0, lr=0.05, estimate=estimate), samples=3
        ).energy.mean()
        for n, estimate in ((0, "path"), (3, "path"), (3, "control"))
    )
    assert path < free - 20
    assert control > free
    guided = iv.solve(p, solvers.CTDTM(n_steps=30, weight=10.0, process="ode", start="random", lr=0.05), samples=3)
    assert guided.energy.mean() < free - 20


@pytest.mark.parametrize("schedule", [iv.DDPMSchedule(), iv.VESchedule(), iv.FlowSchedule()])
def test_every_prior_is_a_flow(schedule):
    p = problem(1, schedule)
    flow = iv.solve(p, solvers.FTM(n_steps=15, n_inner=0), samples=3).samples
    torch.testing.assert_close(flow, iv.solve(p, solvers.DDIM(n_steps=15), samples=3).samples, rtol=0, atol=1e-9)


def test_what_cannot_work_is_refused_before_any_work():
    nonlinear = iv.Problem(toy.gaussian(), costs.FunctionCost(lambda x: x.flatten(1).sum(1)))
    with pytest.raises(iv.CapabilityError, match="linear operator"):
        iv.solve(nonlinear, solvers.NDTM(optimizer="gauss-newton"))
    with pytest.raises(iv.InputError, match="Heun"):
        solvers.CTDTM(method="heun")
    with pytest.raises(iv.InputError, match="jacobian_below"):
        solvers.NDTM(jacobian_below=1.0, control_start="causal")
    with pytest.raises(iv.InputError, match="optimizer"):
        solvers.NDTM(optimizer="sgd")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["network", "linear", "estimate"])
def test_a_control_is_a_name_or_an_object(name):
    p = problem()
    named, given = (iv.solve(p, ndtm(control=c)).samples for c in (name, control_of(name)))
    assert torch.equal(named, given)
    with pytest.raises(iv.InputError, match="control"):
        ndtm(control="quadratic")


@pytest.mark.parametrize("schedule", [iv.FlowSchedule(), iv.CosineSchedule()])
@pytest.mark.parametrize("solver", [ndtm(weights="ddim"), ndtm(weights="ddpm"), ndtm(), solvers.REDdiff(n_steps=10)])
def test_schedules_that_end_in_pure_noise_are_served(solver, schedule):
    result = iv.solve(problem(2, schedule), solver)
    assert all(status == "ok" for row in result.status for status in row)


@pytest.mark.parametrize("solver", [solvers.FTM(n_steps=30), solvers.CTDTM(n_steps=30)], ids=lambda s: s.name)
def test_defaults_of_the_continuous_solvers_guide_and_keep_their_transient_costs(solver):
    """Sample means are nearer to the posterior mean than the prior's is by more than half, on two tasks in [-1, 1]."""
    assert solver.transient_weight > 0
    mask = (torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(5)) > 0.5).double()
    for operator, sigma in (
        (operators.Inpainting(toy.SHAPE, mask), 0.1),
        (operators.SuperResolution(toy.SHAPE, 2), 0.05),
    ):
        clean = toy.gaussian().sample(2, iv.Rng(3))
        y = costs.GaussianLikelihood(operator, None, sigma).simulate(clean, iv.Rng(4))
        p = iv.Problem(toy.gaussian((-1.0, 1.0)), costs.GaussianLikelihood(operator, y, sigma))
        a, c = exact.matrix(operator), toy.covariance(48)
        mean = torch.linspace(0.3, 0.7, 48, dtype=torch.float64)
        gain = c @ a.T @ torch.linalg.inv(a @ c @ a.T + sigma**2 * torch.eye(len(a)))
        best, std = mean + (y.flatten(1) - a @ mean) @ gain.T, (c - gain @ a @ c).diag().sqrt()
        ends = [iv.solve(p, dataclasses.replace(solver, n_inner=n), samples=24).samples for n in (0, solver.n_inner)]
        free, guided = (float(((x.flatten(2).mean(1) - best) / std).square().mean().sqrt()) for x in ends)
        assert guided < 0.5 * free
