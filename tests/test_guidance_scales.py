"""Guidance scale rules, the solver that uses them, and the costs that steer it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import invsolve as iv
from invsolve import costs, priors, solvers
from invsolve.core.prior import Prediction
from invsolve.core.schedule import path
from invsolve.costs.classifier import ClassifierCost
from invsolve.costs.reward import RewardCost
from invsolve.solvers.steps.scales import (
    SHAPES,
    AdaptiveScale,
    At,
    ClippedScale,
    FixedScale,
    SoftScale,
    ThresholdScale,
    em_stability_limit,
    geoguide,
    parse_scale,
)
from invsolve.solvers.steps.updates import limited

NORMS = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)
CENTRE = torch.tensor([0.4, -0.3], dtype=torch.float64)


def quadratic(x: Tensor) -> Tensor:
    return -(x - CENTRE.to(x)).square().sum(1)


def gaussian(schedule: iv.Schedule | None = None) -> priors.GaussianPrior:
    return priors.GaussianPrior(torch.tensor([1.0, -0.5]), 0.5, schedule or iv.VPSchedule())


def sampled(solver: iv.Solver, cost: iv.TerminalCost | None = None, n: int = 6, seed: int = 0) -> Tensor:
    return iv.solve(iv.Problem(gaussian(), cost or RewardCost(quadratic)), solver, samples=n, seed=seed).samples[0]


def walked(rule: AdaptiveScale, norms: list[Tensor]) -> list[Tensor]:
    """lambda at each step of a path with these gradient norms."""
    memory, found = rule.start(len(norms[0]), norms[0]), []
    for k, norm in enumerate(norms):
        lam, memory = rule(norm, At(1 - k / len(norms), k, len(norms)), memory)
        found.append(lam)
    return found


def test_adaptive_scale_follows_its_running_average() -> None:
    norms = [NORMS, 2 * NORMS, 0.5 * NORMS]
    first = NORMS
    second = 0.9 * first + 0.1 * 2 * NORMS
    third = 0.9 * second + 0.1 * 0.5 * NORMS
    found = walked(AdaptiveScale(30.0, "constant"), norms)
    for lam, average in zip(found, (first, second, third), strict=True):
        assert torch.allclose(lam, 30 / (average + 1e-3), rtol=1e-12)
    zero = walked(AdaptiveScale(30.0, "constant", ema_init="zero"), norms)
    assert torch.allclose(zero[1], 30 / (0.09 * NORMS + 0.1 * 2 * NORMS + 1e-3))
    fair = walked(AdaptiveScale(30.0, "constant", ema_init="debiased"), norms)
    assert torch.allclose(fair[1], 30 / ((0.09 * NORMS + 0.2 * NORMS) / (1 - 0.81) + 1e-3))
    capped = walked(AdaptiveScale(30.0, "constant", lam_max=10.0), norms)
    assert capped[0].tolist() == pytest.approx([10.0, 10.0, 30 / 5.001])


def test_without_smoothing_the_guidance_has_the_length_of_the_schedule() -> None:
    for shape, f in SHAPES.items():
        for t in (0.0, 0.13, 0.5, 0.97):
            lam, _ = AdaptiveScale(30.0, shape, ema_decay=0.0)(NORMS, At(t, 1, 9), AdaptiveScale().start(3, NORMS))
            assert bool((lam * NORMS <= 30 * f(t) * (1 + 1e-12)).all())
    lam, _ = geoguide(7.0)(NORMS, At(0.3, 0, 5), geoguide(7.0).start(3, NORMS))
    assert torch.allclose(lam * NORMS, torch.full_like(NORMS, 7.0), rtol=1e-12)
    none, _ = geoguide(7.0)(torch.zeros(1), At(0.3, 0, 5), geoguide(7.0).start(1, torch.zeros(1)))
    assert (none * 0.0).tolist() == [0.0]


def test_shapes_have_peak_one_and_the_bells_fade_at_both_ends() -> None:
    for name, f in SHAPES.items():
        assert max(f(i / 100) for i in range(101)) == pytest.approx(1.0)
        if name not in ("constant", "gauss"):
            assert f(0.0) == pytest.approx(0.0, abs=1e-12)
            assert f(1.0) == pytest.approx(0.0, abs=1e-12)
    step = AdaptiveScale(4.0, "parabola", 0.0, 0.0, clock="step")
    assert step(torch.ones(1), At(0.9, 2, 5), step.start(1, torch.ones(1)))[0].item() == pytest.approx(4.0)


def test_baselines_are_their_formulas() -> None:
    at = At(0.5, 0, 1)
    assert (FixedScale(5.0)(NORMS, at, {})[0] * NORMS).tolist() == pytest.approx([1.0, 5.0, 25.0])
    assert (FixedScale(5.0, "sin2")(NORMS, At(0.25, 0, 1), {})[0]).tolist() == pytest.approx([2.5] * 3)
    assert (ClippedScale(5.0)(NORMS, at, {})[0] * NORMS).tolist() == pytest.approx([1.0, 5.0, 5.0])
    total = ClippedScale(5.0, 2.0, "total")(NORMS, at, {})[0] * NORMS
    assert total.tolist() == pytest.approx([1.0, 2.0, 2.0])
    soft = SoftScale(5.0, 2.0)(NORMS, at, {})[0] * NORMS
    assert soft.tolist() == pytest.approx([5 * 2 * math.tanh(n / 2) for n in NORMS.tolist()])
    x0 = torch.tensor([[0.5, -0.5, 0.2], [3.0, -1.5, 0.3]])
    limited = ThresholdScale(1.0, quantile=1.0).limit(x0)
    assert torch.allclose(limited, torch.tensor([[0.5, -0.5, 0.2], [1.0, -0.5, 0.1]]))


def test_the_average_is_a_sample_s_own() -> None:
    solver = solvers.Guidance(AdaptiveScale(5.0), n_steps=12)
    problem = iv.Problem(gaussian(), RewardCost(quadratic))
    together = iv.solve(problem, solver, samples=6).samples[0]
    apart = iv.solve(problem, solver, samples=6, microbatch=2).samples[0]
    assert torch.allclose(together, apart, rtol=1e-12)


@pytest.mark.parametrize(
    "rule", [FixedScale(0.0), AdaptiveScale(0.0), ClippedScale(0.0), SoftScale(0.0), ThresholdScale(0.0, floor=1e9)]
)
def test_scale_zero_is_the_unconditional_sampler_bit_for_bit(rule) -> None:
    for eta in (0.0, 1.0):
        free = iv.solve(iv.Problem(gaussian()), solvers.DDIM(n_steps=15, eta=eta), samples=4).samples[0]
        assert torch.equal(sampled(solvers.Guidance(rule, n_steps=15, eta=eta), n=4), free)


def test_one_step_is_the_formula() -> None:
    prior, problem = gaussian(), iv.Problem(gaussian(), RewardCost(quadratic, temperature=0.5))
    solver = solvers.Guidance(FixedScale(3.0), at="xt", n_steps=10, eta=0.0)
    state = solver.init(problem, 4, iv.Rng(1))
    after, info = solver.step(problem, state, iv.Rng(1))
    step, x = solver.path(problem)[0], state.x
    g = -2 * (x - CENTRE) / 0.5
    score = prior.score(x, 1.0) + 3 * g
    x0 = (x + step.sigma_t**2 * score) / step.alpha_t
    eps = -step.sigma_t * score
    assert torch.allclose(after.x, step.alpha_s * x0 + step.sigma_s * eps, rtol=1e-9)
    assert torch.allclose(info.extra["guidance"], 3 * g)
    hat = solvers.Guidance(FixedScale(3.0), n_steps=10, eta=0.0)
    _, info = hat.step(problem, state, iv.Rng(1))
    jacobian = step.alpha_t * 0.5 / (step.alpha_t**2 * 0.5 + step.sigma_t**2)
    exact = -2 * jacobian * (prior.denoise(x, 1.0) - CENTRE) / 0.5 * 3
    assert torch.allclose(info.extra["guidance"], exact, rtol=1e-9)


def test_euler_maruyama_is_its_formula_and_needs_the_rate() -> None:
    problem = iv.Problem(gaussian(), RewardCost(quadratic))
    solver = solvers.Guidance(FixedScale(2.0), at="xt", sampler="em", n_steps=10)
    state = solver.init(problem, 3, iv.Rng(1))
    z = iv.Rng(7).normal(state.x)
    after, _ = solver.step(problem, state, iv.Rng(7))
    beta, dt = 20.0, 0.1
    score = gaussian().score(state.x, 1.0) - 2 * 2 * (state.x - CENTRE)
    exact = state.x + (0.5 * beta * state.x + beta * score) * dt + math.sqrt(beta * dt) * z
    assert torch.allclose(after.x, exact, rtol=1e-9)
    with pytest.raises(iv.CapabilityError, match="VPSchedule"):
        iv.solve(iv.Problem(gaussian(iv.FlowSchedule()), RewardCost(quadratic)), solver)


class Linear(costs.FunctionCost):
    """A cost whose exact guidance is known on a Gaussian prior: Phi(x) = -w . x."""

    def __init__(self, w: Tensor) -> None:
        super().__init__(lambda x: -(x * w).sum(1))


def test_samples_follow_the_exactly_tilted_law() -> None:
    """p(x) exp(w . x) of N(m, v) is N(m + v w, v); at x0hat the guidance is exact up to a constant, so the mean is."""
    w = torch.tensor([0.8, -0.6], dtype=torch.float64)
    out = sampled(solvers.Guidance(FixedScale(1.0), n_steps=120, eta=1.0), Linear(w), n=3000)
    exact = torch.tensor([1.0, -0.5]) + 0.5 * w
    # standard error of a mean 0.013, of a variance 0.013: five of them
    assert (out.mean(0) - exact).abs().max() < 0.065
    assert (out.var(0) - 0.5).abs().max() < 0.065


def test_time_conditional_classifier_guidance_is_the_conditional_sampler() -> None:
    from test_guidance_weights import law, states

    prior = law()

    def classifier(x: Tensor, sigma: Tensor) -> Tensor:
        t = prior.schedule.time_of(float(sigma[0]))
        return prior.class_log_prob(prior.schedule(t)[0] * x, t)

    cost = ClassifierCost(classifier, 2, 3, conditional=True)
    x = states()
    solver = solvers.Guidance(FixedScale(1.0), at="noisy", n_steps=12, eta=0.0)
    problem = iv.Problem(prior, cost)
    guided = iv.solve(problem, solver, samples=3).samples
    exact = iv.solve(iv.Problem(prior.given(label=2)), solvers.DDIM(n_steps=12), samples=3).samples
    assert torch.allclose(guided, exact, rtol=1e-6, atol=1e-6)
    energy = problem.noisy_energy(x, *prior.schedule(0.4))
    assert torch.allclose(energy, -prior.class_log_prob(x, 0.4)[:, 2], rtol=1e-6)


def test_costs_add_and_their_temperature_divides() -> None:
    x = torch.rand(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits = lambda x: torch.stack([x[:, 0], x[:, 1], -x[:, 0]], 1)  # noqa: E731
    classifier = ClassifierCost(logits, torch.tensor([0, 1, 2, 2]), 3, temperature=0.5)
    exact = -2 * logits(x).log_softmax(1)[torch.arange(4), torch.tensor([0, 1, 2, 2])]
    assert torch.allclose(classifier(x), exact)
    assert torch.allclose(classifier.select(torch.tensor([3, 0]))(x[[3, 0]]), exact[[3, 0]])
    reward = RewardCost(quadratic, temperature=2.0)
    assert torch.allclose((classifier + 0.3 * reward)(x), exact - 0.15 * quadratic(x))
    factor = RewardCost(lambda x: quadratic(x).exp(), temperature=2.0, positive=True)
    assert torch.allclose(factor(x), reward(x))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
def test_the_targets_of_a_classifier_may_be_integers_of_any_width(kind: torch.dtype) -> None:
    x, target = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 2])
    cost = ClassifierCost(lambda x: x, target.to(kind), 3)
    assert torch.equal(cost(x), ClassifierCost(lambda x: x, target, 3)(x))


def test_the_stability_limit_is_where_euler_maruyama_diverges_at_first() -> None:
    assert em_stability_limit(20.0, 0.999 / 500, 2.0) == pytest.approx(24.78, abs=0.01)
    peaks = []
    for lam in (15.0, 35.0):
        biggest: list[float] = []
        solver = solvers.Guidance(FixedScale(lam), at="xt", sampler="em", n_steps=500)
        watch = lambda p, store=biggest: store.append(float(p.state.x.abs().max()))  # noqa: E731
        iv.solve(iv.Problem(gaussian(), RewardCost(quadratic)), solver, samples=4, callbacks=[watch])
        peaks.append(max(biggest))
    assert peaks[0] < 10
    assert peaks[1] > 1e6


def test_a_grid_may_end_in_a_little_noise() -> None:
    """As in the experiments with Euler-Maruyama steps, whose drift is singular at 0."""
    times = (1.0, 0.6, 0.3, 0.05)
    for solver in (solvers.Guidance(FixedScale(1.0), at="xt", sampler="em", times=times), solvers.DDIM(times=times)):
        assert solver.path(iv.Problem(gaussian()))[-1].s == 0.05
        assert sampled(solver).shape == (6, 2)
    with pytest.raises(iv.InputError, match="times must"):
        solvers.DDIM(times=(0.5, -0.1))


def test_a_limited_estimate_still_belongs_to_its_state() -> None:
    prior = gaussian()
    prior.value_range, prior.bounded = (-1.0, 1.0), True
    problem, step = iv.Problem(prior), path(prior.schedule, 10)[4]
    x0 = torch.tensor([[0.3, -0.9], [4.0, -0.2]], dtype=torch.float64)
    eps = torch.tensor([[1.0, 0.5], [-0.7, 0.1]], dtype=torch.float64)
    out = limited(problem, step, Prediction(x0, eps))
    assert torch.equal(out.x0, x0.clamp(-1, 1))
    assert torch.allclose(step.alpha_t * out.x0 + step.sigma_t * out.eps, step.alpha_t * x0 + step.sigma_t * eps)
    assert torch.equal(out.eps[0], eps[0])


class Single(priors.Prior):
    """The Gaussian in float32."""

    def __init__(self) -> None:
        self.inner, self.schedule, self.shape = gaussian(), iv.VPSchedule(), (2,)
        self.value_range, self.bounded = (0.0, 1.0), False

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        return self.inner.denoise(x_t.double(), t).float()


def test_guidance_that_diverges_ends_with_a_status_and_finite_samples() -> None:
    solver = solvers.Guidance(FixedScale(50.0), at="xt", sampler="em", n_steps=500)
    out = iv.solve(iv.Problem(Single(), RewardCost(quadratic)), solver, samples=2)
    assert all("non-finite" in sentence for sentence in out.status[0])
    assert bool(torch.isfinite(out.samples).all())


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: FixedScale(-1.0), "lam must"),
        (lambda: AdaptiveScale(-1.0), "lam must"),
        (lambda: AdaptiveScale(math.nan), "lam must"),
        (lambda: AdaptiveScale(1.0, "bell"), "shape"),
        (lambda: AdaptiveScale(1.0, ema_decay=1.0), "ema_decay"),
        (lambda: ClippedScale(1.0, 0.0), "norm"),
        (lambda: ThresholdScale(1.0, 1.5), "quantile"),
        (lambda: parse_scale("adaptiv:3"), "adaptive"),
        (lambda: parse_scale("adaptive"), "name:lambda"),
        (lambda: parse_scale("adaptive:-3"), "lam must"),
        (lambda: parse_scale("clip:3,sin2"), "no shape"),
        (lambda: solvers.Guidance(at="x0"), "x0hat"),
        (lambda: solvers.Guidance(3.0), "AdaptiveScale"),
        (lambda: ClassifierCost(lambda x: x, 3, 3), "0 to 2"),
        (lambda: ClassifierCost(lambda x: x, 1.5, 3), "whole number"),
        (lambda: ClassifierCost(lambda x: x, torch.tensor([1j]), 3), "whole number"),
        (lambda: ClassifierCost(lambda x: x, 1, 3, temperature=0.0), "temperature"),
        (lambda: ClassifierCost(lambda x: x[:, :2], 1, 3)(torch.rand(4, 5)), "logits of shape"),
        (lambda: ClassifierCost(lambda x: x * math.nan, 1, 3)(torch.rand(4, 3)), "are NaN"),
        (lambda: RewardCost(lambda x: x)(torch.rand(4, 3)), "one number for each sample"),
        (lambda: RewardCost(lambda x: x.sum(1) * math.nan)(torch.rand(4, 3)), "are NaN"),
        (lambda: RewardCost(lambda x: -x.sum(1), positive=True)(torch.rand(4, 3)), "negative"),
        (lambda: RewardCost(quadratic, temperature=-1.0), "temperature"),
    ],
)
def test_wrong_settings_are_told_in_a_sentence(bad, words: str) -> None:
    with pytest.raises(iv.InputError, match=words):
        bad()


def test_a_classifier_of_clean_images_is_not_asked_about_noisy_ones() -> None:
    cost = ClassifierCost(lambda x: x, 1, 2)
    with pytest.raises(iv.CapabilityError, match="clean images only"):
        iv.solve(iv.Problem(gaussian(), cost), solvers.Guidance(at="noisy", n_steps=3))


def test_rules_are_read_from_the_command_line() -> None:
    assert parse_scale("adaptive:30") == AdaptiveScale(30.0)
    assert parse_scale("adaptive:30,constant") == AdaptiveScale(30.0, "constant")
    assert parse_scale("clip:2") == ClippedScale(2.0)
