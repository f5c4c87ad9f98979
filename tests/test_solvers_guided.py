"""Guided samplers one by one: a step against its formula, exact laws, limits, calls, refusals."""

from __future__ import annotations

import math

import pytest
import torch
import toy
from torch import Tensor

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.solvers.steps.updates import ddim

MINE = ["calibrated", "ct-dtm", "daps", "dmplug", "freedom", "ftm", "lgd-mc", "mpgd", "scg", "tds"]


def problem(items: int = 2) -> iv.Problem:
    return iv.Problem(toy.gaussian(), toy.likelihood(items))


def state(p: iv.Problem, n: int = 2) -> Tensor:
    return 0.4 + 0.6 * p.empty(n).normal_(generator=torch.Generator().manual_seed(0))


def stepped(solver: iv.Solver, p: iv.Problem, x: Tensor, k: int) -> Tensor:
    with torch.no_grad():
        return solver.step(p, iv.State(x, k), iv.Rng(9))[0].x


def test_zero_guidance_is_the_unguided_sampler_bit_for_bit():
    p, options = problem(), {"n_steps": 12, "eta": 0.7}
    free = iv.solve(p, solvers.DDIM(**options)).samples
    for solver in (
        solvers.MPGD(zeta=0.0, **options),
        solvers.FreeDoM(zeta=0.0, **options),
    ):
        assert torch.equal(iv.solve(p, solver).samples, free), type(solver).__name__
    x = state(p)  # LGD-MC draws for its estimate too, so one step without other noise
    now = solvers.DDIM(n_steps=12, eta=0.0).path(p)[5]
    prediction = p.prior.predict(x, now.t)
    for weight in (0.0, 1.0):
        same = torch.equal(
            stepped(solvers.LGDMC(n_steps=12, eta=0.0, weight=weight), p, x, 5),
            ddim(now, 0.0, prediction.x0, prediction.eps, iv.Rng(0)),
        )
        assert same == (weight == 0.0)


def test_mpgd_moves_the_estimate_along_its_own_gradient():
    p, x = problem(), state(problem())
    solver = solvers.MPGD(n_steps=10, zeta=0.7, eta=0.3, weighting="alpha")
    now = solver.path(p)[4]
    prediction = p.prior.predict(x, now.t)
    moved = prediction.x0 + 0.7 * now.alpha_t * p.linear_data.operator.adjoint(p.residual(prediction.x0))
    torch.testing.assert_close(
        stepped(solver, p, x, 4), ddim(now, 0.3, moved, prediction.eps, iv.Rng(9)), rtol=0, atol=1e-12
    )
    flat = solvers.MPGD(n_steps=10, zeta=0.7, eta=0.3, projection=lambda x0: 0 * x0 + 0.5)
    assert torch.allclose(iv.solve(p, flat).samples, torch.tensor(0.5, dtype=torch.float64))


def test_freedom_steps_travels_back_and_guides_backward_as_written():
    p, x = problem(), state(problem()).requires_grad_()
    solver = solvers.FreeDoM(n_steps=10, zeta=0.4, eta=0.3, rounds=3, window=(0.0, 0.05))
    now = solver.path(p)[4]
    prediction = p.prior.predict(x, now.t)
    (slope,) = torch.autograd.grad(p.residual_sq(prediction.x0).sqrt().sum(), x)
    want = ddim(now, 0.3, prediction.x0, prediction.eps, iv.Rng(9)) - 0.4 * now.alpha_t * slope
    torch.testing.assert_close(stepped(solver, p, x.detach(), 4), want.detach(), rtol=0, atol=1e-12)
    backward = solvers.FreeDoM(n_steps=10, zeta=0.0, eta=0.0, n_backward=2, backward_lr=0.5)
    x0 = prediction.x0.detach()
    for _ in range(2):
        x0 = x0 + 0.5 * p.linear_data.operator.adjoint(p.residual(x0))
    eps = (x.detach() - now.alpha_t * x0) / now.sigma_t
    torch.testing.assert_close(
        stepped(backward, p, x.detach(), 4), now.alpha_s * x0 + now.sigma_s * eps, rtol=0, atol=1e-12
    )


def test_a_second_round_starts_from_the_noised_result_of_the_first():
    p, x = problem(), state(problem())
    solver = solvers.FreeDoM(n_steps=4, zeta=0.0, rounds=2, window=(0.0, 1.0), eta=0.0)
    now = solver.path(p)[1]
    free = p.prior.predict(x, now.t)
    first = ddim(now, 0.0, free.x0, free.eps, iv.Rng(0))
    ratio = now.alpha_t / now.alpha_s
    again = ratio * first + math.sqrt(now.sigma_t**2 - ratio**2 * now.sigma_s**2) * iv.Rng(9).normal(x)
    free = p.prior.predict(again, now.t)
    want = ddim(now, 0.0, free.x0, free.eps, iv.Rng(0))
    torch.testing.assert_close(stepped(solver, p, x, 1), want, rtol=0, atol=1e-12)


def test_time_travel_without_guidance_keeps_the_law_of_the_prior():
    prior = priors.GaussianPrior(
        torch.full((1, 2, 2), 0.5, dtype=torch.float64), torch.tensor([0.01, 0.04, 0.09, 0.16])
    )
    p = iv.Problem(prior, costs.FunctionCost(lambda x: 0.0 * x.flatten(1).sum(1)))
    solver = solvers.FreeDoM(n_steps=100, zeta=0.0, rounds=2, window=(0.0, 0.3), eta=0.0)
    x = iv.solve(p, solver, samples=1000).samples[0].flatten(1)
    ratio = x.var(0) / prior.covs[0].diagonal()
    assert ((ratio - 1).abs() <= 5 * math.sqrt(2 / 1000) + 0.06).all()  # five standard errors and the discretisation


def test_loss_guidance_with_one_draw_and_no_radius_is_the_score_of_the_likelihood_at_the_mean():
    """Then E[x0 | x_t] moves by sigma^2 / alpha times the gradient, and eps by -sigma times it."""
    p, x = problem(), state(problem()).requires_grad_()
    solver = solvers.LGDMC(n_steps=10, n_draws=1, spread=1e-9, eta=0.0)
    now = solver.path(p)[6]
    prediction = p.prior.predict(x, now.t)
    (slope,) = torch.autograd.grad(-p.energy(prediction.x0).sum(), x)
    x0 = prediction.x0 + now.sigma_t**2 / now.alpha_t * slope
    want = now.alpha_s * x0 + now.sigma_s * (prediction.eps - now.sigma_t * slope)
    torch.testing.assert_close(stepped(solver, p, x.detach(), 6), want.detach(), rtol=0, atol=1e-8)


def spread_of(solver: iv.Solver, samples: int = 1500) -> tuple[Tensor, Tensor]:
    """Mean and variance of the whitened errors, [6] each: 0 and 1 for exact posterior samples.

    The prior is N(m, 0.04 I), three of six pixels are observed with noise 0.1."""
    shape = (1, 2, 3)
    prior = priors.GaussianPrior(torch.linspace(0.2, 0.8, 6).double().view(shape), torch.full((6,), 0.04))
    mask = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]])
    y = 0.8 * mask.double()[None]
    likelihood = costs.GaussianLikelihood(operators.Inpainting(shape, mask), y, 0.1)
    post = prior.posterior(likelihood)
    x = iv.solve(iv.Problem(prior, likelihood), solver, samples=samples).samples[0].flatten(1)
    z = (x - post.mean.flatten()) / post.cov[0].diagonal().sqrt()
    return z.mean(0), z.var(0)


@pytest.mark.parametrize(
    ("options", "bias"),
    [({"sampler": "exact"}, 0.0), ({"sampler": "langevin", "n_langevin": 60, "lr": 0.1}, 0.1)],
)
def test_daps_is_exact_where_its_gaussian_is(options, bias):
    """One network call to the mean and the prior's own spread; Langevin steps of 0.1 widen by about 5%."""
    mean, variance = spread_of(solvers.DAPS(n_steps=5, n_ode=1, spread=0.2, **options))
    assert mean.abs().max() < 5 / math.sqrt(1500)
    assert (variance - 1).abs().max() < 5 * math.sqrt(2 / 1500) + bias


def test_daps_spreads_too_far_with_the_published_radius_or_a_longer_ode():
    for options in ({"n_ode": 8}, {"n_ode": 1, "spread": None}):
        _, variance = spread_of(solvers.DAPS(**{"n_steps": 20, "sampler": "exact", "spread": 0.2, **options}), 500)
        assert variance[torch.tensor([1, 3, 5])].min() > 1.15  # unobserved pixels


def noisy_denoising() -> iv.Problem:
    clean = toy.gaussian().sample(3, iv.Rng(1))
    y = clean + 0.15 * iv.Rng(2).normal(clean)
    return iv.Problem(toy.gaussian(), costs.GaussianLikelihood(operators.Denoising(toy.SHAPE), y, 0.15))


def test_dmplug_stops_at_the_noise_level_sample_by_sample():
    p = noisy_denoising()
    ends: dict[int, int] = {}

    def watch(progress: iv.Progress) -> None:
        for row in progress.state.memory["ended"].nonzero().flatten().tolist():
            ends.setdefault(row, progress.step)

    solver = solvers.DMPlug(n_iterations=150, lr=0.05, stop="residual")
    stopped = iv.solve(p, solver, callbacks=[watch])
    assert sorted(ends) == [0, 1, 2]
    assert len(set(ends.values())) > 1
    assert stopped.stats.network_forwards == 3 * max(ends.values())  # nothing runs after the last has ended
    assert (p.residual_sq(stopped.samples[:, 0]) <= 48 * 0.15**2).all()
    last = max(ends, key=lambda row: ends[row])
    alone = iv.solve(p.select(torch.tensor([last])), solver, items=[last]).samples
    torch.testing.assert_close(alone, stopped.samples[[last]], rtol=0, atol=1e-9)
    fitted = iv.solve(p, solvers.DMPlug(n_iterations=150, lr=0.05)).samples
    assert (p.residual_sq(fitted[:, 0]) < p.residual_sq(stopped.samples[:, 0])).all()  # it goes on to fit the noise


def test_dmplug_keeps_the_result_of_least_windowed_variance():
    p = noisy_denoising()
    history, chosen = [], []
    free = solvers.DMPlug(n_iterations=80, lr=0.1)
    iv.solve(p, free, callbacks=[lambda progress: history.append(progress.state.x)])
    solver = solvers.DMPlug(n_iterations=80, lr=0.1, stop="variance", window=5, patience=10)
    result = iv.solve(p, solver, callbacks=[lambda progress: chosen.append(progress.state.memory["ended"])])
    x = torch.stack(history)
    for row in range(3):
        best, since, least = 4, 0, math.inf
        for k in range(4, 80):
            variance = float(x[k - 4 : k + 1, row].var(0, correction=0).sum())
            since = 0 if variance < least else since + 1
            best, least = (k, variance) if since == 0 else (best, least)
            if since == 10:
                break
        torch.testing.assert_close(result.samples[row, 0], x[best, row], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("solver", "forwards", "backwards"),
    [
        (solvers.MPGD(n_steps=10), 10, 0),
        (solvers.FreeDoM(n_steps=10), 10, 10),
        (solvers.FreeDoM(n_steps=10, rounds=3, window=(0.35, 0.75)), 10 + 2 * 4, 10 + 2 * 4),
        (solvers.FreeDoM(n_steps=10, zeta=0.0, n_backward=2), 10, 0),
        (solvers.DAPS(n_steps=5, n_ode=4, n_langevin=3), 4 * 4 + 1, 0),  # one index is left at the last level
        (solvers.DMPlug(n_iterations=5), 15, 15),
    ],
)
def test_network_calls_are_at_the_minimum(solver, forwards, backwards):
    stats = iv.solve(problem(), solver, samples=2, microbatch=3).stats
    assert (stats.network_forwards, stats.network_backwards) == (forwards, backwards)


@pytest.mark.parametrize("name", MINE)
def test_a_missing_cost_is_named_before_any_work(name):
    with pytest.raises(iv.CapabilityError, match="terminal cost"):
        iv.solve(iv.Problem(toy.gaussian()), toy.quick(name))


def test_options_that_need_more_than_the_problem_has_are_named_before_any_work():
    cost = costs.FunctionCost(lambda x: x.flatten(1).sum(1))
    p = iv.Problem(toy.gaussian(), cost)
    with pytest.raises(iv.CapabilityError, match="linear operator"):
        iv.solve(p, solvers.DAPS(sampler="exact"))
    with pytest.raises(iv.CapabilityError, match="Gaussian likelihood"):
        iv.solve(p, solvers.DMPlug(stop="residual"))


@pytest.mark.parametrize("name", MINE)
def test_any_differentiable_cost_guides(name):
    """Towards bright images, in float64; every solver must lower the cost against the unguided sampler's."""
    cost = costs.FunctionCost(lambda x: 60 * (x.flatten(1).mean(1) - 0.9).square())
    p = iv.Problem(toy.gaussian(), cost)
    free = iv.solve(p, solvers.DDIM(n_steps=20, eta=1.0), samples=12).energy.mean()
    settings = {
        "ct-dtm": {"n_steps": 20, "lr": 0.05, "start": "random"}, "dmplug": {"n_iterations": 30, "lr": 0.1},
        "freedom": {"n_steps": 20, "zeta": 0.3}, "ftm": {"n_steps": 20, "lr": 0.1}, "mpgd": {"n_steps": 20},
        "tds": {"n_steps": 20, "n_particles": 12}, "scg": {"n_steps": 20},
        "calibrated": {"n_steps": 20, "n_draws": 64, "n_inner": 5}, "lgd-mc": {"n_steps": 20},
        "daps": {"n_steps": 10, "n_ode": 2, "lr": 0.2},
    }[name]  # fmt: skip
    guided = iv.solve(p, solvers.SOLVERS[name](**settings), samples=12)
    assert guided.ok
    assert guided.energy.mean() < (0.9 if name == "calibrated" else 0.85) * free


class Float32(iv.Prior):
    """The toy prior for a network that computes in single precision."""

    bounded, value_range, shape = False, (0.0, 1.0), toy.SHAPE

    def __init__(self) -> None:
        self.inner = toy.gaussian()
        self.schedule = self.inner.schedule

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        assert x_t.dtype == torch.float32
        return self.inner.denoise(x_t.double(), t).float()


@pytest.mark.parametrize("name", MINE)
def test_single_precision_stays_single_and_close(name):
    likelihood = toy.likelihood(2)
    single = iv.solve(iv.Problem(Float32(), likelihood), toy.quick(name))
    double = iv.solve(iv.Problem(toy.gaussian(), likelihood), toy.quick(name))
    assert single.samples.dtype == torch.float32
    assert single.ok
    torch.testing.assert_close(single.samples.double(), double.samples, rtol=0, atol=5e-3)


class Breaks(iv.Prior):
    """One row becomes NaN at the fourth call."""

    bounded, value_range, shape = False, (0.0, 1.0), toy.SHAPE

    def __init__(self) -> None:
        self.inner, self.seen = toy.gaussian(), 0
        self.schedule = self.inner.schedule

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        self.seen += 1
        x0, size = self.inner.denoise(x_t, t), len(x_t) // 3
        rows = torch.arange(len(x_t)) // size
        return torch.where((rows == 1)[:, None, None, None] & (self.seen >= 4), torch.nan, x0)


@pytest.mark.parametrize("name", MINE)
def test_a_sample_that_breaks_leaves_the_others_alone(name):
    likelihood = toy.likelihood(3)
    broken = iv.solve(iv.Problem(Breaks(), likelihood), toy.quick(name))
    whole = iv.solve(iv.Problem(toy.gaussian(), likelihood), toy.quick(name))
    assert broken.status[0] == broken.status[2] == ("ok",)
    assert "non-finite" in broken.status[1][0]
    torch.testing.assert_close(broken.samples[[0, 2]], whole.samples[[0, 2]], rtol=0, atol=1e-9)


def test_red_diff_starts_from_noise_where_no_image_follows_from_the_measurement():
    prior = toy.gaussian()
    cost = costs.FunctionCost(lambda x: (x - 0.5).square().flatten(1).sum(1))
    with pytest.raises(iv.CapabilityError, match="start='random'"):
        iv.solve(iv.Problem(prior, cost), solvers.REDdiff(n_steps=4))
    result = iv.solve(iv.Problem(prior, cost), solvers.REDdiff(n_steps=40, start="random", lr=0.1))
    assert result.ok
