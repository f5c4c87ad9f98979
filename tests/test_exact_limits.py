"""Where theory says that a solver has an exact law, it has it; and how fast it comes near.

Every step is affine here, so means and covariances of the output are computed (`exact.law`), not estimated.
"""

from __future__ import annotations

from collections.abc import Callable

import exact
import pytest
import torch
from torch import Tensor

import invsolve as iv
from invsolve import Problem, costs, operators, priors, solvers
from invsolve.core.solver import State
from invsolve.testing import ReplayRng

PIXELS = (1, 2, 3)
MEAN = torch.linspace(0.2, 0.8, 6, dtype=torch.float64)
CORRELATED = 0.04 * 0.6 ** (torch.arange(6)[:, None] - torch.arange(6)).abs().double()
EQUAL = torch.full((6,), 0.04, dtype=torch.float64)
SPREAD = torch.linspace(0.02, 0.08, 6, dtype=torch.float64)
MIXING = torch.randn(3, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 2
MASK = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]])
SCHEDULE = iv.FlowSchedule()


def mixing() -> iv.LinearOperator:
    return operators.as_operator(lambda x: x.flatten(1) @ MIXING.to(x).T, in_shape=PIXELS, linear=True)


def posed(cov: Tensor, operator: iv.LinearOperator, sigma: float = 0.1, schedule: iv.Schedule = SCHEDULE) -> Problem:
    prior = priors.GaussianPrior(MEAN.view(PIXELS), cov, schedule)
    y = costs.GaussianLikelihood(operator, None, sigma).simulate(prior.sample(1, iv.Rng(0)), iv.Rng(1))
    return Problem(prior, costs.GaussianLikelihood(operator, y, sigma))


def falling(n: int, top: float = 90.0, low: float = 0.002) -> tuple[float, ...]:
    """The times of SCHEDULE at which sigma / alpha takes n values in geometric progression, then 0."""
    return (*(SCHEDULE.time_of(top * (low / top) ** (i / (n - 1))) for i in range(n)), 0.0)


def posterior(problem: Problem) -> tuple[Tensor, Tensor]:
    law = problem.prior.posterior(problem.cost)  # pyright: ignore[reportAttributeAccessIssue]
    return law.mean[0].flatten(), law.cov[0]


def convergence(
    problem: Problem, make: Callable[[tuple[float, ...]], iv.Solver], n: int = 40
) -> tuple[float, float, float]:
    """The order in which the covariance converges between n and 2 n steps, the error of the mean at 2 n, and that of
    the covariance extrapolated from both as if the order were 1."""
    mean, cov = posterior(problem)
    laws = [exact.law(problem, make(falling(steps))) for steps in (n, 2 * n)]
    errors = [exact.distance(*law, mean, cov) for law in laws]
    order = exact.orders([error[1] for error in errors])[0]
    return order, errors[1][0], exact.distance(mean, 2 * laws[1][1] - laws[0][1], mean, cov)[1]


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(
    ("problem", "make"),
    [
        (posed(EQUAL, mixing()), lambda eta, times: solvers.PiGDM(eta=eta, prior_std=0.2, times=times)),
        (posed(CORRELATED, mixing()), lambda eta, times: solvers.MMPS(n_inner=3, eta=eta, times=times)),
        (
            posed(CORRELATED, mixing()),
            lambda eta, times: solvers.MMPS(n_inner=3, eta=eta, preconditioner="isotropic", prior_std=0.2, times=times),
        ),
        (
            posed(SPREAD, operators.Inpainting(PIXELS, MASK)),
            lambda eta, times: solvers.TMPD(eta=eta, times=times),
        ),
    ],
    ids=["pigdm", "mmps", "preconditioned mmps", "tmpd"],
)
def test_guided_samples_converge_to_the_posterior_to_first_order(problem, make, eta):
    order, mean, extrapolated = convergence(problem, lambda times: make(eta, times))
    assert 0.85 < order < 1.15
    assert mean < 0.015  # of a standard deviation: what the path's start, at a finite noise level, leaves
    assert extrapolated < (0.01 if eta == 0.0 else 0.03)


def from_the_measurement(n: int, **changes) -> solvers.MMPS:
    return solvers.MMPS(n_steps=n, start="measurement", noise_ratios=(1.0, 0.01), **changes)


def test_denoising_from_the_measurement_is_the_posterior():
    """Ancestral steps keep the mean exactly; the covariance comes near to first order."""
    problem = posed(CORRELATED, operators.Denoising(PIXELS))
    mean, cov = posterior(problem)
    laws = [exact.law(problem, from_the_measurement(n)) for n in (40, 80)]
    errors = [exact.distance(*law, mean, cov) for law in laws]
    assert 0.85 < exact.orders([error[1] for error in errors])[0] < 1.15
    assert errors[1][0] < 1e-7
    assert exact.distance(mean, 2 * laws[1][1] - laws[0][1], mean, cov)[1] < 0.02


@pytest.mark.parametrize("schedule", [iv.DDPMSchedule(), iv.VESchedule(10.0, 0.001), iv.VPSchedule()])
def test_denoising_from_the_measurement_is_the_same_on_every_schedule(schedule):
    laws = [
        exact.law(posed(CORRELATED, operators.Denoising(PIXELS), schedule=s), from_the_measurement(4))
        for s in (SCHEDULE, schedule)
    ]
    for got, right in zip(*laws, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-5, atol=1e-7)


def test_the_samples_of_an_image_share_the_first_call():
    """Their first state is y, so that one call does for all; of two images each has its own."""
    one = posed(CORRELATED, operators.Denoising(PIXELS))
    assert iv.solve(one, from_the_measurement(3), samples=5).stats.network_forwards == pytest.approx((1 + 2 * 5) / 5)
    y = torch.cat([one.linear_data.y, 1 - one.linear_data.y])
    two = Problem(one.prior, costs.GaussianLikelihood(operators.Denoising(PIXELS), (y + 1) / 2, 0.1))
    assert iv.solve(two, from_the_measurement(3), samples=5).stats.network_forwards == 3
    solver, noise = from_the_measurement(3), torch.randn(3, *PIXELS, generator=torch.Generator().manual_seed(0))
    alike = State(one.linear_data.y.expand(3, *PIXELS).clone())
    other = State(torch.cat([alike.x, alike.x[:1] + 1]))
    shared = solver.step(one, alike, ReplayRng([noise]))[0].x
    each = solver.step(one, other, ReplayRng([torch.cat([noise, noise[:1]])]))[0].x
    torch.testing.assert_close(shared, each[:3])


def test_what_is_no_denoising_does_not_start_from_the_measurement():
    with pytest.raises(iv.InputError, match="needs noise_ratios >= 1"):
        solvers.MMPS(start="measurement")
    with pytest.raises(iv.InputError, match="needs noise_ratios >= 1"):
        solvers.MMPS(start="measurement", noise_ratios=(0.5, 0.1))
    with pytest.raises(iv.CapabilityError, match="is for denoising"):
        iv.solve(posed(CORRELATED, mixing()), from_the_measurement(2))
    likelihood = costs.GaussianLikelihood(
        operators.Denoising(PIXELS), torch.zeros(2, *PIXELS), torch.tensor([0.1, 0.2])
    )
    prior = priors.GaussianPrior(MEAN.view(PIXELS), CORRELATED, SCHEDULE)
    with pytest.raises(iv.CapabilityError, match="one noise level"):
        iv.solve(Problem(prior, likelihood), from_the_measurement(2))


def test_one_preconditioned_iteration_is_pigdm_where_its_guess_is_right():
    """M is then the system itself, so that one iteration solves it, for every operator and noise level."""
    problem, times = posed(EQUAL, mixing()), falling(10)
    one = solvers.MMPS(n_inner=1, preconditioner="isotropic", prior_std=0.2, eta=0.0, times=times)
    want = exact.law(problem, solvers.PiGDM(prior_std=0.2, eta=0.0, times=times))
    for got, right in zip(exact.law(problem, one), want, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-8, atol=1e-10)


def test_preconditioning_changes_the_first_iterations_and_not_their_limit():
    problem, times = posed(CORRELATED, mixing(), sigma=0.02), falling(10)
    settings = {"eta": 0.0, "prior_std": 0.2, "times": times}
    plain, short, full = (
        exact.law(problem, solvers.MMPS(n_inner=n, preconditioner=kind, **settings))[0]
        for n, kind in ((3, "none"), (1, "isotropic"), (3, "isotropic"))
    )
    torch.testing.assert_close(full, plain, rtol=1e-7, atol=1e-9)
    assert (short - plain).abs().max() > 1e-3


def test_a_step_that_uses_the_last_estimate_converges_to_second_order():
    """The same network calls as first order, and nearly the posterior's covariance after 40 steps."""
    problem = posed(CORRELATED, mixing())
    mean, cov = posterior(problem)
    first, *errors = (
        exact.distance(*exact.law(problem, solvers.MMPS(n_inner=3, eta=0.0, order=order, times=falling(n))), mean, cov)
        for order, n in ((1, 40), (2, 40), (2, 80))
    )
    assert exact.orders([error[1] for error in errors])[0] > 1.7
    assert errors[0][1] < 0.2 * first[1]


def test_second_order_needs_a_deterministic_path():
    with pytest.raises(iv.InputError, match="eta=0"):
        solvers.MMPS(order=2)


@pytest.mark.parametrize(
    ("problem", "make"),
    [
        (posed(EQUAL, mixing()), lambda times: solvers.PiGDM(eta=0.0, prior_std=1.0, times=times)),
        (posed(CORRELATED, mixing()), lambda times: solvers.MMPS(n_inner=1, eta=0.0, times=times)),
        (posed(CORRELATED, mixing()), lambda times: solvers.TMPD(eta=0.0, times=times)),
    ],
    ids=["pigdm", "mmps", "tmpd"],
)
def test_an_approximation_that_does_not_hold_is_not_mended_by_more_steps(problem, make):
    assert convergence(problem, make)[2] > 0.1


def test_diffpir_converges_to_the_posterior_under_a_wide_prior():
    problem = posed(torch.full((6,), 4.0).double(), operators.Inpainting(PIXELS, MASK), sigma=0.02)
    order, mean, extrapolated = convergence(problem, lambda times: solvers.DiffPIR(lam=1.0, zeta=0.0, times=times))
    assert 0.85 < order < 1.15
    assert mean < 0.02
    assert extrapolated < 0.02


class Point(iv.Prior):
    """All of p(x0) at one image."""

    bounded = False
    value_range = (0.0, 1.0)
    schedule = iv.VESchedule(1e6, 0.1)  # from so far out that starting at N(0, sigma_T^2 I) is exact to 1e-6
    dtype = torch.float64  # pyright: ignore[reportAssignmentType]

    def __init__(self, x0: Tensor) -> None:
        self.x0, self.shape = x0, tuple(x0.shape)

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        return self.x0.expand_as(x_t)


@pytest.mark.parametrize(
    "operator",
    [
        operators.SuperResolution((1, 4, 4), 2),
        operators.Inpainting((1, 4, 4), torch.arange(16).view(4, 4) % 3 == 0),
        operators.CircularBlur((1, 4, 4), torch.tensor([[0.1, 0.0, 0.0], [0.2, 0.4, 0.1], [0.0, 0.2, 0.0]])),
        operators.CircularBlur((1, 4, 4), torch.full((1, 4), 0.25)),  # with singular values of 0
    ],
    ids=["superres", "inpaint", "blur", "blur-singular"],
)
@pytest.mark.parametrize(
    "solver",
    [solvers.DDRM(n_steps=8, start="exact"), solvers.DDRM(n_steps=8, eta=0.3, eta_b=0.6), solvers.DDNM(n_steps=8)],
    ids=["ddrm", "ddrm-eta", "ddnm"],
)
def test_spectral_solvers_have_the_marginals_of_the_forward_process(operator, solver):
    """Were x0 known, every x_s would be N(x0, sigma_s^2 I) over the measurement's noise and the solver's."""
    x0, sigma = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 0.3
    entries = x0.numel() if isinstance(operator, operators.Inpainting) else operator(x0[None]).numel()
    count = exact.Impulses()
    y = operator(x0[None])
    exact.run(Problem(Point(x0), costs.GaussianLikelihood(operator, y, sigma)), solver, 1, count)
    n = 1 + entries + count.drawn
    noise = torch.zeros(n, entries).double()
    noise[torch.arange(entries) + 1, torch.arange(entries)] = sigma
    problem = Problem(Point(x0), costs.GaussianLikelihood(operator, y + noise.view(n, *operator.out_shape), sigma))
    states = exact.run(problem, solver, n, exact.Impulses(1 + entries))
    for step, state in zip(solver.path(problem), states[1:], strict=True):
        x, scale = state.x.flatten(1), step.sigma_s or 1.0
        factor, exact_cov = (x[1:] - x[0]) / scale, torch.eye(16).double() * (step.sigma_s > 0)
        torch.testing.assert_close(x[0] / scale, x0.flatten() / scale, rtol=0, atol=1e-5)
        torch.testing.assert_close(factor.T @ factor, exact_cov, rtol=0, atol=1e-9)


def test_diffpir_has_the_marginals_of_the_forward_process_without_data():
    """A measurement that says nothing and a known x0: each x_s is N(x0, sigma_s^2 I), whatever zeta."""
    operator, solver = operators.Denoising((1, 2, 2)), solvers.DiffPIR(n_steps=6, zeta=0.4, start="random")
    problem = Problem(
        Point(torch.rand(1, 2, 2).double()), costs.GaussianLikelihood(operator, torch.zeros(1, 1, 2, 2), 1e12)
    )
    n = 1 + 4 * 6
    states = exact.run(exact.rows(problem.on_prior(), n), solver, n, exact.Impulses())
    for step, state in zip(solver.path(problem), states[1:-1], strict=False):
        factor = (state.x - state.x[0]).flatten(1) / step.sigma_s
        torch.testing.assert_close(factor.T @ factor, torch.eye(4).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("solver", "last"),
    [(solvers.DDRM(250, eta=0.0), 0.01), (solvers.DDNM(250, eta=0.0, noisy=False), 0.0)],
    ids=["ddrm", "ddnm"],
)
def test_spectral_solvers_fill_in_independent_pixels_with_the_law_of_the_prior(solver, last):
    """No noise to speak of, eta = 0: known pixels are y, the others follow the probability flow of the prior.

    DDRM's answer is its last denoised estimate, at a noise level `last`: known pixels keep as much of it.
    """
    problem = posed(SPREAD, operators.Inpainting(PIXELS, MASK), sigma=1e-6, schedule=iv.DDPMSchedule())
    mean, cov = exact.law(problem, solver)
    known = MASK.flatten() > 0
    y = problem.cost.measurement.flatten()  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    torch.testing.assert_close(mean[known], y[known], rtol=0, atol=1e-5 + 0.1 * last)
    assert cov[known].abs().max() < 1e-9 + 1.1 * last**2
    torch.testing.assert_close(mean[~known], MEAN[~known], rtol=0, atol=2e-3)
    torch.testing.assert_close(cov[~known][:, ~known], SPREAD[~known].diag(), rtol=0.08, atol=1e-9)


def gibbs(rho: float, n_inner: int) -> tuple[Tensor, Tensor, Problem]:
    """Mean and covariance of the stationary law of PnP-DM at a constant rho, from one step's affine map."""
    problem = posed(CORRELATED, mixing())
    solver = solvers.PnPDM(n_steps=1, n_inner=n_inner, rho_start=rho, rho_end=rho)
    count = exact.Impulses()
    solver.step(exact.rows(problem, 1), State(torch.zeros(1, *PIXELS).double()), count)
    n = 7 + count.drawn
    z = torch.zeros(n, 6).double()
    z[1:7] = torch.eye(6)
    out = solver.step(exact.rows(problem, n), State(z.view(n, *PIXELS)), exact.Impulses(7))[0].x.flatten(1)
    linear, factor = (out[1:7] - out[0]).T, out[7:] - out[0]
    cov, power = factor.T @ factor, linear
    for _ in range(30):
        cov, power = cov + power @ cov @ power.T, power @ power
    return torch.linalg.solve(torch.eye(6).double() - linear, out[0]), cov, problem


def stationary(problem: Problem, rho: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of p(z) N(y; A z, sigma^2 I + rho^2 A A^T)."""
    prior = torch.linalg.inv(CORRELATED)
    noise = torch.linalg.inv(0.1**2 * torch.eye(3).double() + rho**2 * MIXING @ MIXING.T)
    cov = torch.linalg.inv(prior + MIXING.T @ noise @ MIXING)
    y = problem.cost.measurement[0]  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    return cov @ (MIXING.T @ noise @ y + prior @ MEAN), cov


@pytest.mark.parametrize("rho", [0.1, 0.3])
def test_pnpdm_has_the_stationary_law_of_the_split_gibbs_sampler(rho):
    laws = [gibbs(rho, n_inner) for n_inner in (20, 40)]
    means, covs = zip(*[exact.distance(*law[:2], *stationary(law[2], rho)) for law in laws], strict=True)
    assert max(means) < 1e-9  # whatever the number of inner steps
    assert 0.7 < exact.orders(list(covs))[0] < 1.3
    assert covs[1] < rho**2 * 0.8 + 0.01


def test_pnpdm_comes_to_the_posterior_as_rho_falls():
    errors = []
    for rho in (0.08, 0.04):
        mean, cov, problem = gibbs(rho, 20)
        errors.append(exact.distance(mean, cov, *posterior(problem))[1])
    assert 1.6 < exact.orders(errors)[0] < 2.4


def test_pnpdm_annealed_comes_to_the_law_of_its_last_rho():
    problem = posed(CORRELATED, mixing())
    solver = solvers.PnPDM(n_steps=25, n_inner=10, rho_start=1.0, rho_end=0.1, decay=0.8)
    mean, cov = exact.distance(*exact.law(problem, solver), *stationary(problem, 0.1))
    assert mean < 0.1
    assert cov < 0.1


@pytest.mark.parametrize("lam", [-0.4, 0.0, 0.5])
def test_cpigdm_converges_to_its_equation_whatever_lam(lam):
    """Against Runge-Kutta on dx/dt = -beta x / 2 + beta eps / (2 sd) - w beta mu (v - sd g) / 2, all linear here."""
    problem, w, t_start, t_end = posed(CORRELATED, mixing(), schedule=iv.VPSchedule()), 2.0, 0.4, 0.01
    plus = torch.linalg.pinv(MIXING)
    project, eye = plus @ MIXING, torch.eye(6).double()
    data = plus @ problem.cost.measurement[0]  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]

    def slope(x: Tensor, t: float) -> Tensor:
        mu, sd = problem.prior.schedule(t)
        beta = 0.1 + 19.9 * t
        jacobian = sd * torch.linalg.inv(mu**2 * CORRELATED + sd**2 * eye)
        eps = jacobian @ (x - mu * MEAN)
        v = data - project @ (x - sd * eps) / mu
        return -0.5 * beta * (x - eps / sd) - 0.5 * w * beta * mu * (v - sd * jacobian @ v)

    mu, sd = problem.prior.schedule(t_start)
    noise = iv.Rng(3).normal(torch.empty(1, 6).double())[0]
    x, n = mu * data + sd * noise, 250
    h = (t_end - t_start) / n
    for i in range(n):
        t = t_start + i * h
        a = slope(x, t)
        b = slope(x + h / 2 * a, t + h / 2)
        c = slope(x + h / 2 * b, t + h / 2)
        x = x + h / 6 * (a + 2 * b + 2 * c + slope(x + h * c, t + h))
    ends = []
    for n_steps in (25, 50, 100):
        solver = solvers.CPiGDM(n_steps=n_steps, lam=lam, w=w, t_start=t_start, t_end=t_end)
        states = exact.run(problem, solver, 1, iv.testing.ReplayRng([noise.view(1, *PIXELS)]))
        ends.append(states[-1].x.flatten())
    errors = [(end - x).abs().max().item() for end in ends]
    assert 0.8 < exact.orders(errors)[1] < 1.3
    assert (2 * ends[2] - ends[1] - x).abs().max() < 0.05 * errors[2] + 2e-4


def test_cpigdm_does_not_depend_on_the_schedule_of_the_prior():
    """Its equation is its own; the same Gaussian on another schedule answers it with the same estimates."""
    ends = []
    for schedule in (iv.VPSchedule(), iv.FlowSchedule(), iv.VESchedule(), iv.DDPMSchedule()):
        problem = posed(CORRELATED, operators.Inpainting(PIXELS, MASK), schedule=schedule)
        noise = iv.Rng(3).normal(torch.empty(1, *PIXELS).double())
        ends.append(exact.run(problem, solvers.CPiGDM(n_steps=8), 1, iv.testing.ReplayRng([noise]))[-1].x)
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-9)
