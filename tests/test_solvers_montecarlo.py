"""Solvers that draw many for one: exact in the limit on a mixture, where DPS is not.

The problem: one pixel, two modes at -0.5 and 0.7 of equal prior weight, y = 0.2 with noise 0.3. The posterior has 0.284
of its weight on the left mode and a law known in closed form. Kolmogorov-Smirnov distances of S draws from it: a
perfect sampler exceeds 2.2 / sqrt(S) once in about 10 000 runs.
"""

from __future__ import annotations

import math

import pytest
import torch
import toy
from torch import Tensor

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.solvers.steps.particles import choose, systematic
from invsolve.solvers.steps.updates import ddim_coefficients

PIXEL = (1, 1, 1)


def mixture() -> iv.Problem:
    means = torch.tensor([-0.5, 0.7], dtype=torch.float64).view(2, *PIXEL)
    prior = priors.MixturePrior(means, torch.full((2,), 0.04), None, iv.VESchedule(3.0, 0.03))
    y = torch.full((1, *PIXEL), 0.2, dtype=torch.float64)
    return iv.Problem(prior, costs.GaussianLikelihood(operators.Denoising(PIXEL), y, 0.3))


def distance(p: iv.Problem, draws: Tensor) -> float:
    """Kolmogorov-Smirnov distance of draws [S] from the exact posterior."""
    assert isinstance(p.prior, priors.MixturePrior)
    assert isinstance(p.cost, costs.GaussianLikelihood)
    post = p.prior.posterior(p.cost)
    x = draws.flatten().sort().values
    z = (x[:, None] - post.means[0, :, 0]) / post.covs[0, :, 0, 0].sqrt()
    law = (post.weights[0] * 0.5 * (1 + torch.erf(z / math.sqrt(2)))).sum(1)
    steps = torch.arange(len(x) + 1) / len(x)
    return float(torch.maximum((law - steps[:-1]).abs(), (law - steps[1:]).abs()).max())


def run(solver: iv.Solver, samples: int) -> Tensor:
    return iv.solve(mixture(), solver, samples=samples).samples[0].flatten()


def test_twisted_particles_converge_to_the_posterior_of_a_mixture():
    p, s = mixture(), 1000
    for spread in (0.25, 0.0):  # the tempered twist and the published one
        errors = [distance(p, run(solvers.TDS(n_steps=50, n_particles=n, spread=spread), s)) for n in (1, 16)]
        assert errors[1] < 2.2 / math.sqrt(s) + 0.02  # 0.02: bias of 16 particles and 50 steps
        if spread == 0.0:
            assert errors[0] > errors[1] + 0.02
    dps = min(distance(p, run(solvers.DPS(n_steps=150, zeta=zeta), s)) for zeta in (0.03, 0.1, 0.3))
    assert dps > 0.2  # whatever its weight


def test_calibrated_guidance_converges_to_the_posterior_of_a_mixture():
    p, s = mixture(), 300
    errors = [distance(p, run(solvers.CalibratedGuidance(n_steps=40, n_draws=m, n_inner=14), s)) for m in (2, 32)]
    assert errors[1] < 2.2 / math.sqrt(s) + 0.02
    assert errors[0] > errors[1] + 0.03


def test_loss_guidance_does_not_converge_with_more_draws():
    p, s = mixture(), 1000
    assert distance(p, run(solvers.LGDMC(n_steps=50, n_draws=200, spread=0.5), s)) > 0.07


def test_calibrated_guidance_is_the_gradient_of_the_log_evidence():
    """At one state, against log p_t(x_t | y) - log p_t(x_t) differentiated through the closed form."""
    p = mixture()
    assert isinstance(p.prior, priors.MixturePrior)
    solver = solvers.CalibratedGuidance(n_steps=10, n_draws=40000, n_inner=80)
    for k in (3, 6):
        now = solver.path(p)[k]
        x = torch.full((1, *PIXEL), 0.3, dtype=torch.float64)
        with torch.no_grad():
            _, info = solver.step(p, iv.State(x, k), iv.Rng(0))
        # p(x0 | x_t, y): two Gaussian factors on the prior's components
        precision = 1 / 0.04 + (now.alpha_t / now.sigma_t) ** 2 + 1 / 0.09
        means = p.prior.means[:, 0]
        pull = now.alpha_t * 0.3 / now.sigma_t**2 + 0.2 / 0.09
        modes = (means / 0.04 + pull) / precision
        log_weights = -0.5 * means**2 / 0.04 + 0.5 * precision * modes**2
        exact = (log_weights.softmax(0) * modes).sum()
        # the guidance itself is 0.144 and -0.049; the draws' standard error 0.003, their 80 steps' bias below 0.002
        assert (info.x0 - exact).abs().max() < 0.007


def test_the_weights_are_the_ratio_of_the_two_kernels():
    p = iv.Problem(toy.gaussian(), toy.likelihood(2))
    solver = solvers.TDS(n_steps=10, n_particles=3, threshold=0.0, eta=0.8)
    rng = iv.Rng(0, [(0, 0), (1, 0)])
    with torch.no_grad():
        start = solver.init(p, 2, rng)
        after = solver.step(p, start, rng)[0]
    many, now = p.select(torch.tensor([0, 0, 0, 1, 1, 1])), solver.path(p)[0]
    x_t = start.memory["particles"].flatten(0, 1).requires_grad_()
    prediction = p.prior.predict(x_t, now.t)
    radius = 0.25 * now.sigma_t / math.hypot(0.25 * now.alpha_t, now.sigma_t)
    twist = -(0.05**2 / (0.05**2 + radius**2)) * many.energy(prediction.x0)
    (slope,) = torch.autograd.grad(twist.sum(), x_t)
    c1, c2 = ddim_coefficients(now, 0.8)
    mean = (now.alpha_s * prediction.x0 + c2 * prediction.eps).detach()
    free, pushed = torch.distributions.Normal(mean, c1), torch.distributions.Normal(mean + c1**2 * slope, c1)
    x_s = after.memory["particles"].flatten(0, 1)
    ratio = (free.log_prob(x_s) - pushed.log_prob(x_s)).flatten(1).sum(1)
    torch.testing.assert_close(after.memory["log_weights"].flatten(), ratio, rtol=0, atol=1e-9)


def test_resampling_keeps_expectations_and_only_poor_rows_take_part():
    log_weights = torch.tensor([[0.9, 0.0, 0.0, -0.9], [4.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    counts = torch.zeros(4)
    for seed in range(400):
        kept, new = systematic(log_weights, iv.Rng(seed), 0.5)
        assert kept[0].tolist() == [0, 1, 2, 3]
        assert torch.equal(new[0], log_weights[0])
        assert (new[1] == 0).all()
        counts += torch.bincount(kept[1], minlength=4)
    share = log_weights[1].softmax(0)
    assert (counts / 1600 - share).abs().max() < 0.02  # five standard errors of a systematic count
    picks = torch.bincount(torch.stack([choose(log_weights, iv.Rng(seed))[1] for seed in range(2000)]), minlength=4)
    assert (picks / 2000 - share).abs().max() < 5 * math.sqrt(0.25 / 2000)


def test_scg_lowers_a_cost_without_gradients_and_more_candidates_lower_it_more():
    def stairs(x: Tensor) -> Tensor:  # piecewise constant, and detached for good measure
        return (40 * (x.detach().flatten(1).mean(1) - 0.8).abs()).floor()

    p = iv.Problem(toy.gaussian(), costs.FunctionCost(stairs))
    means = [iv.solve(p, solvers.SCG(n_steps=20, n_candidates=c), samples=40).energy.mean() for c in (1, 4, 16)]
    assert means[0] > means[1] > means[2]
    assert means[2] < 0.85 * means[0]
    warm = iv.solve(p, solvers.SCG(n_steps=20, n_candidates=16, temperature=100.0), samples=40).energy.mean()
    assert means[2] < warm <= means[0] + 1.0


def test_zero_guidance_is_the_unguided_sampler_bit_for_bit():
    likelihood = toy.likelihood(2)
    free = iv.solve(iv.Problem(toy.gaussian(), likelihood), solvers.DDIM(n_steps=12, eta=0.7)).samples
    options = {"n_steps": 12, "eta": 0.7}
    for cost, solver in (
        (likelihood, solvers.CalibratedGuidance(weight=0.0, **options)),
        (likelihood, solvers.SCG(n_candidates=1, **options)),
        (0.0 * likelihood, solvers.TDS(n_particles=1, **options)),
    ):
        assert torch.equal(iv.solve(iv.Problem(toy.gaussian(), cost), solver).samples, free), type(solver).__name__


def test_a_measurement_that_says_nothing_guides_by_nothing():
    p = iv.Problem(toy.gaussian(), 0.0 * toy.likelihood(1))
    solver = solvers.CalibratedGuidance(n_steps=6, n_draws=4, n_inner=3)
    x = p.empty(1).normal_(generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, info = solver.step(p, iv.State(x, 2), iv.Rng(0))
        expected = p.prior.denoise(x, solver.path(p)[2].t)
    torch.testing.assert_close(info.x0, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("solver", "forwards", "backwards"),
    [
        (solvers.TDS(n_steps=10, n_particles=3), 30, 30),
        (solvers.SCG(n_steps=10, n_candidates=3), 1 + 3 * 9, 0),
        (solvers.CalibratedGuidance(n_steps=10, n_draws=3, n_inner=4), 10 + 9 * 3 * 3, 0),  # the last index draws none
        (solvers.LGDMC(n_steps=10, n_draws=5), 10, 10),
    ],
)
def test_network_calls_are_at_the_minimum(solver, forwards, backwards):
    stats = iv.solve(iv.Problem(toy.gaussian(), toy.likelihood(2)), solver, samples=2, microbatch=3).stats
    assert (stats.network_forwards, stats.network_backwards) == (forwards, backwards)


def test_particles_of_every_row_belong_to_its_measurement() -> None:
    problem = iv.Problem(toy.gaussian(), toy.likelihood(3))
    y = toy.likelihood(3).measurement
    for n, size in ((3, 2), (3, 4), (2, 2), (3, 2)):
        many = problem.repeated(n, size)
        assert torch.equal(many.linear_data.y, y[:n].repeat_interleave(size, 0))
