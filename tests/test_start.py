"""The smooth, noise-aware start of solvers, and where guided ones take A^+ y instead."""

from __future__ import annotations

import exact
import pytest
import torch
import toy
from skimage import data

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.core.linalg import conjugate_gradient, laplacian
from invsolve.core.start import TAU, guided_estimate, smooth_estimate
from invsolve.core.svd import SVDOperator
from invsolve.operators.kernels import gaussian_kernel, motion_kernel
from invsolve.restoration.settings import QUALITIES, USUAL, build, settings
from invsolve.tasks.deblur import Deblur
from invsolve.tasks.denoise import Denoise
from invsolve.tasks.inpaint import Inpaint
from invsolve.tasks.observed_blur import ObservedBlur
from invsolve.tasks.superres import Superres

SHAPE = (2, 12, 10)
N = 240
G = torch.Generator().manual_seed(0)
MASK = torch.rand(2, 1, 12, 10, generator=G) < 0.3
MOTION = motion_kernel(5, 30.0)

OPERATORS = {
    "denoising": operators.Denoising(SHAPE),
    "inpainting, a mask each": operators.Inpainting(SHAPE, MASK),
    "blur, mirrored": operators.GaussianBlur(SHAPE, 1.2, "symmetric"),
    "blur, circular": operators.Blur(SHAPE, MOTION, "circular"),
    "blur, reflected": operators.Blur(SHAPE, MOTION, "reflect"),
    "blur, zero": operators.Blur(SHAPE, MOTION, "zero"),
    "superresolution": operators.SuperResolution(SHAPE, 2),
    "observed blur": ObservedBlur((2, 10, 8), gaussian_kernel(0.5, 1)),
    "composed": operators.SuperResolution(SHAPE, 2) @ operators.GaussianBlur(SHAPE, 1.0, "symmetric"),
}


def dense(f, shape):
    """The matrix of a linear map of images, from its columns."""
    n = int(torch.tensor(shape).prod())
    return torch.stack([f(e.view(1, *shape)).flatten() for e in torch.eye(n, dtype=torch.float64)], 1)


def squared_differences(shape):
    """<x, L x> written out: the matrix of all differences of neighbours, and its Gram matrix."""

    def differences(x):
        return torch.cat([x.diff(dim=-1).flatten(), x.diff(dim=-2).flatten()])

    d = dense(differences, shape)
    return d.T @ d


def test_the_laplacian_is_the_gram_matrix_of_neighbouring_differences():
    torch.testing.assert_close(dense(laplacian, (2, 4, 5)), squared_differences((2, 4, 5)))


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("width", [1.0, 2.0])
def test_the_smooth_start_is_the_dense_solution(name, width):
    operator = OPERATORS[name]
    y = torch.rand(2, *operator.out_shape, generator=G, dtype=torch.float64)
    sigma = torch.tensor([0.02, 0.1], dtype=torch.float64)
    found = smooth_estimate(operator, y, sigma, width)
    smoothness = squared_differences(operator.in_shape)
    for row in range(2):
        own = operator.select(torch.tensor([row]))
        a = dense(own, own.in_shape)
        system = a.T @ a + (sigma[row] / (TAU * width)) ** 2 * smoothness
        want = torch.linalg.solve(system, a.T @ y[row].flatten())
        torch.testing.assert_close(found[row].flatten(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_row_of_the_start_does_not_depend_on_the_others(name):
    operator = OPERATORS[name]
    y = torch.rand(2, *operator.out_shape, generator=G, dtype=torch.float64)
    sigma = torch.tensor([0.002, 0.2], dtype=torch.float64)
    together = smooth_estimate(operator, y, sigma)
    for row in range(2):
        rows = torch.tensor([row])
        alone = smooth_estimate(operator.select(rows), y[rows], sigma[rows])
        torch.testing.assert_close(together[rows], alone, rtol=1e-9, atol=1e-9)


def test_a_constant_image_is_its_own_start():
    """L does not see a constant, so that no noise level draws the estimate towards 0."""
    for name in ("inpainting, a mask each", "superresolution", "blur, reflected"):
        operator = OPERATORS[name]
        x = torch.full((2, *operator.in_shape), 0.7, dtype=torch.float64)
        torch.testing.assert_close(smooth_estimate(operator, operator(x), 0.3), x)


@pytest.mark.parametrize("make", [lambda s: operators.GaussianBlur(s, 1.2, "symmetric"), operators.Denoising])
def test_what_the_cosine_transform_diagonalises_is_not_iterated(make, monkeypatch):
    monkeypatch.setattr("invsolve.core.operator.conjugate_gradient", lambda *a, **k: pytest.fail("iterated"))
    operator = make(SHAPE)
    assert smooth_estimate(operator, torch.rand(1, *operator.out_shape), 0.1).isfinite().all()


def test_guided_starts_are_the_pseudo_inverse_as_published_where_it_is_well_conditioned():
    y_of = lambda a: torch.rand(2, *a.out_shape, generator=G, dtype=torch.float64)  # noqa: E731
    for name in ("denoising", "inpainting, a mask each", "superresolution"):
        operator = OPERATORS[name]
        y = y_of(operator)
        assert torch.equal(guided_estimate(operator, y, 0.05), operator.pinv(y))
    for name in ("blur, mirrored", "blur, circular", "blur, reflected"):
        operator = OPERATORS[name]
        y = y_of(operator)
        assert torch.equal(guided_estimate(operator, y, 0.05), smooth_estimate(operator, y, 0.05))


def test_each_row_of_a_guided_start_is_decided_by_its_own_operator():
    """A kernel that is nearly a point can be undone, a wide one cannot."""
    point = torch.zeros(5, 5, dtype=torch.float64)
    point[2, 2] = 1.0
    operator = operators.Blur(SHAPE, torch.stack([point, gaussian_kernel(1.5, 2).double()])[:, None], "circular")
    y = torch.rand(2, *SHAPE, generator=G, dtype=torch.float64)
    found = guided_estimate(operator, y, 0.05)
    torch.testing.assert_close(found[0], y[0])
    torch.testing.assert_close(found[1], smooth_estimate(operator, y, 0.05)[1])


def test_noise_gain_is_the_frobenius_norm_of_the_pseudo_inverse():
    operator = OPERATORS["superresolution"]
    plus = torch.linalg.pinv(dense(operator, SHAPE), rtol=1e-6)
    y = torch.zeros(1, *operator.out_shape, dtype=torch.float64)
    want = plus.norm() / N**0.5
    torch.testing.assert_close(operator.noise_gain(y)[0], want)
    probed = super(SVDOperator, operator).noise_gain(y)[0]
    assert abs(probed / want - 1) < 0.5  # one draw of 60 numbers; off by 4 standard deviations once in 10 000 seeds
    several = super(SVDOperator, operator).noise_gain(y.expand(3, *y.shape[1:]))
    torch.testing.assert_close(several, probed.expand(3))  # a row's does not depend on its place in the batch


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_the_start_does_not_depend_on_the_range_of_the_prior(low):
    a = OPERATORS["blur, reflected"]
    y = torch.rand(1, *SHAPE, generator=G, dtype=torch.float64)
    prior = priors.GaussianPrior(torch.zeros(SHAPE, dtype=torch.float64), 0.04)
    prior.value_range = (low, 1.0)
    problem = iv.Problem(prior, costs.GaussianLikelihood(a, y, 0.05))
    want = smooth_estimate(a, y, 0.05)
    torch.testing.assert_close(problem.to_image(problem.smooth_estimate), want, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(problem.to_image(problem.initial_estimate), want, rtol=1e-6, atol=1e-6)


def test_a_likelihood_that_is_not_gaussian_starts_from_an_assumed_noise():
    a = OPERATORS["blur, mirrored"]
    y = a(torch.rand(1, *SHAPE, generator=G, dtype=torch.float64))
    prior = priors.GaussianPrior(torch.zeros(SHAPE, dtype=torch.float64), 0.04)
    start = iv.Problem(prior, costs.LaplaceLikelihood(a, y, 0.05)).initial_estimate
    torch.testing.assert_close(start, iv.Problem(prior, costs.GaussianLikelihood(a, y, 0.02)).initial_estimate)


def test_preconditioned_conjugate_gradients_measure_the_error_and_freeze_rows():
    diagonal = torch.logspace(0, -6, 30, dtype=torch.float64)
    b = torch.rand(2, 30, generator=G, dtype=torch.float64)
    scale = torch.tensor([[1.0], [100.0]], dtype=torch.float64)
    mixed = torch.linalg.qr(torch.randn(30, 30, generator=G, dtype=torch.float64))[0]
    matrix = torch.diag(diagonal) + 1e-7 * (mixed * torch.linspace(0, 1, 30)) @ mixed.T
    solve = lambda b, s: conjugate_gradient(  # noqa: E731
        lambda v: s * (v @ matrix), b, precondition=lambda r: r / diagonal, tol=1e-10, check_every=3
    )
    out = solve(b, scale)
    torch.testing.assert_close(out.x, torch.linalg.solve(matrix, b.T).T / scale, rtol=1e-8, atol=1e-8)
    assert out.iterations <= 15
    torch.testing.assert_close(out.x[1:], solve(b[1:], scale[1:]).x, rtol=1e-12, atol=1e-12)


def test_guided_solvers_of_a_blur_stay_with_the_image():
    """A^+ y of this blur lies in +-10 000: solvers that began there returned black images, with status "ok"."""
    x = torch.from_numpy(data.chelsea()[60:92, 120:152].copy()).permute(2, 0, 1)[None].float() / 255
    a = operators.GaussianBlur((3, 32, 32), 2.0, "symmetric")
    y = costs.GaussianLikelihood(a, None, sigma=0.01).simulate(x, iv.Rng(0))
    problem = iv.Problem(priors.load("natural"), costs.GaussianLikelihood(a, y, sigma=0.01))
    error = lambda z: (z.clamp(0, 1) - x).square().mean()  # noqa: E731
    runs = [solvers.NDTM(n_steps=10, n_inner=1), solvers.DPS(form="ddim", n_steps=20), solvers.REDdiff(n_steps=20)]
    for solver in runs:
        assert error(iv.solve(problem, solver).samples[:, 0]) < 4 * error(y), solver.name
    assert error(iv.solve(problem, solvers.PnPHQS(n_steps=8)).samples[:, 0]) < 0.7 * error(y)


def test_a_guided_descent_does_not_begin_where_nothing_is_left_of_its_start():
    problem = iv.Problem(toy.gaussian(), toy.likelihood(1))
    first = lambda **options: solvers.NDTM(n_steps=5, **options).path(problem)[0]  # noqa: E731
    assert first() == first(t_start=0.4) != first(t_start=1.0)
    assert first(start="random") == first(start="random", t_start=1.0)
    assert first(t_start=0.7) == first(start="random", t_start=0.7)


@pytest.mark.parametrize("average", [1, 3])
def test_pnphqs_gives_each_item_what_it_gets_alone(average):
    """Noise levels that differ from item to item, two of them equal, so that they share a network call."""
    a = operators.Inpainting(toy.SHAPE, torch.rand(toy.SHAPE[-2:], generator=G) < 0.6)
    y = torch.rand(3, *toy.SHAPE, generator=G, dtype=torch.float64)
    sigma = torch.tensor([0.2, 0.02, 0.2], dtype=torch.float64)
    problem = iv.Problem(toy.gaussian(), costs.GaussianLikelihood(a, y, sigma))
    solver = solvers.PnPHQS(n_steps=6, sigma_start=0.3, average=average)
    together = iv.solve(problem, solver)
    for row in range(3):
        own = iv.Problem(toy.gaussian(), costs.GaussianLikelihood(a, y[row : row + 1], float(sigma[row])))
        torch.testing.assert_close(together.samples[row], iv.solve(own, solver).samples[0], rtol=0, atol=1e-10)
    assert together.stats.network_forwards == 6.0
    assert (together.samples[0] - together.samples[1]).abs().max() > 0.01


def test_pnphqs_takes_noise_of_each_item_for_measurements_that_are_no_images():
    a = operators.HadamardSensing((1, 8, 8), 0.5, rng=iv.Rng(0))
    y = torch.rand(2, *a.out_shape, generator=G, dtype=torch.float64)
    sigma = torch.tensor([0.1, 0.02], dtype=torch.float64)
    prior = priors.GaussianPrior(torch.full((1, 8, 8), 0.5), toy.covariance(64), value_range=(0.0, 1.0))
    solver = solvers.PnPHQS(n_steps=4)
    together = iv.solve(iv.Problem(prior, costs.GaussianLikelihood(a, y, sigma)), solver)
    for row in range(2):
        own = iv.Problem(prior, costs.GaussianLikelihood(a, y[row : row + 1], float(sigma[row])))
        torch.testing.assert_close(together.samples[row], iv.solve(own, solver).samples[0], rtol=0, atol=1e-6)


def test_pnphqs_never_denoises_below_the_noise():
    """A first level below the measurement's own noise is raised to it: the network was told of less noise than there
    is, and left it in."""
    sigma = torch.tensor([0.02, 0.2], dtype=torch.float64)
    likelihood = toy.likelihood(2)
    problem = iv.Problem(toy.gaussian(), costs.GaussianLikelihood(likelihood.operator, likelihood.y, sigma))
    levels = solvers.PnPHQS(n_steps=3, sigma_start=0.1).levels(problem, 2)
    own = sigma * problem.width
    torch.testing.assert_close(levels[:, -1], own)
    torch.testing.assert_close(levels[:, 0], own.clamp_min(0.1))
    assert (levels[:, 1:] <= levels[:, :-1]).all()


def test_the_last_denoisings_are_of_one_image_turned_in_different_ways():
    """A prior that prefers a direction (it adds a gradient from left to right) is evened out by four turns."""

    class Slanted(priors.GaussianPrior):
        def denoise(self, x_t, t):
            return super().denoise(x_t, t) + 0.1 * torch.linspace(-1, 1, x_t.shape[-1], dtype=x_t.dtype)

    prior = Slanted(torch.full(toy.SHAPE, 0.5, dtype=torch.float64), 0.04)
    prior.value_range, prior.bounded = (0.0, 1.0), False
    y = torch.full((1, *toy.SHAPE), 0.5, dtype=torch.float64)
    problem = iv.Problem(prior, costs.GaussianLikelihood(operators.Denoising(toy.SHAPE), y, 0.05))
    one, four = (
        iv.solve(problem, solvers.PnPHQS(n_steps=4, average=m, lam=1e-6, sigma_start=0.01, turns=True)).samples[0, 0]
        for m in (1, 4)
    )
    assert (one - 0.5).abs().max() > 0.09
    torch.testing.assert_close(four, y[0], rtol=0, atol=1e-6)
    levels = solvers.PnPHQS(n_steps=6, average=3, sigma_start=0.4).levels(problem, 1)[0]
    torch.testing.assert_close(levels, 0.4 * 0.125 ** (torch.tensor([0, 1, 2, 3, 3, 3]).double() / 3))
    short, whole = (iv.solve(problem, solvers.PnPHQS(n_steps=2, average=m)).samples for m in (3, 2))
    assert torch.equal(short, whole)


@pytest.mark.parametrize("level", [0.01, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("section", ["denoise", "superres2", "superres4", "inpaint", "deblur"])
def test_more_calls_are_never_worse_at_any_noise_level(section, level):
    """fast <= balanced <= best, but for 0.1 dB on one small crop."""
    clean = torch.from_numpy(data.astronaut()[60:100, 200:240].copy()).permute(2, 0, 1).float() / 255
    missing = iv.Rng(0, [("mask", 0)]).uniform(torch.empty(1, 40, 40))[0] < 0.5
    task = {
        "denoise": Denoise(), "superres2": Superres(2), "superres4": Superres(4), "inpaint": Inpaint(missing),
        "deblur": Deblur.gaussian(1.0),
    }[section]  # fmt: skip
    y, truth = task.degrade(clean)
    size = (y.shape[1], y.shape[2])
    y = task.noisy(y, level, iv.Rng(0, [("noise", 0)]))
    problem = iv.Problem(priors.load("natural"), costs.GaussianLikelihood(task.operator(3, size), y[None], level))
    found = []
    for quality in QUALITIES:
        solver = build("pnp-hqs", "natural", section, {}, quality, {"noise": level, **task.conditions})
        restored = task.visible(iv.solve(problem, solver).samples[0, 0], size).clamp(0, 1)
        found.append(-10 * (restored - truth).square().mean().log10().item())
    assert found[0] <= found[1] + 0.1, found
    assert found[1] <= found[2] + 0.1, found


def test_settings_are_interpolated_between_the_points_of_a_table():
    lam = [settings("pnp-hqs", "natural", "superres4", {"noise": level})["lam"] for level in (0.001, 0.01, 0.3, 0.4)]
    assert lam == [0.1, 0.1, 0.2, 0.2]
    middle = settings("pnp-hqs", "natural", "superres4", {"noise": (0.01 * 0.3) ** 0.5})["lam"]
    assert middle == pytest.approx((0.1 * 0.2) ** 0.5, rel=0.01)
    assert settings("pnp-hqs", "natural", "superres4", {}) == settings("pnp-hqs", "natural", "superres4", USUAL)


def test_scatter_tells_holes_from_scattered_pixels():
    hole = torch.zeros(40, 40, dtype=torch.bool)
    hole[10:30, 12:28] = True
    edge = hole.clone().fill_(False)
    edge[:, :7] = True  # nothing lies beyond the border, so that what is missing there counts once, too
    assert Inpaint(hole).conditions == Inpaint(edge).conditions == {"scatter": 0.25}
    for share in (0.5, 0.9):
        random = torch.rand(200, 200, generator=G) < share
        want = share / (1 - (1 - share) ** 4)
        assert Inpaint(random).conditions["scatter"] == pytest.approx(want, abs=0.02)


def test_wide_holes_are_filled_from_coarse_to_fine():
    """The first third of the levels is denoised on images four times smaller, the next on those twice smaller."""
    seen = []

    class Watched(priors.GaussianPrior):
        def denoise(self, x_t, t):
            seen.append((x_t.shape[-1], self.schedule(t)[1] / self.schedule(t)[0]))
            return x_t.clamp(0, 1)

    shape = (3, 64, 64)
    prior = Watched(torch.full(shape, 0.5), 0.04)
    prior.shape, prior.value_range = None, (0.0, 1.0)
    cost = costs.GaussianLikelihood(operators.Denoising(shape), torch.full((1, *shape), 0.5), 0.05)
    iv.solve(iv.Problem(prior, cost), solvers.PnPHQS(n_steps=8, average=2, scales=3, sigma_start=0.4))
    assert [side for side, _ in seen] == [16, 16, 32, 32, 64, 64, 64, 64]
    levels = torch.tensor([0.4 * 0.125 ** (min(k, 6) / 6) for k in range(8)])
    told = torch.tensor([level * 64 / side for side, level in seen])
    torch.testing.assert_close(told, levels, rtol=1e-3, atol=0)
    seen.clear()
    prior.shape = shape
    iv.solve(iv.Problem(prior, cost), solvers.PnPHQS(n_steps=4, scales=3))
    assert [side for side, _ in seen] == [64] * 4


@pytest.mark.parametrize("kind", ["small hole", "wide hole", "letters", "90 %"])
def test_the_default_leaves_no_grey_boxes(kind):
    """At least Telea's method less 0.3 dB, inside what is missing; 90 % missing 0.5 dB above linear interpolation."""
    import cv2
    import numpy as np
    from scipy.interpolate import griddata

    clean = data.chelsea()[60:124, 130:194] if kind == "90 %" else data.astronaut()[40:104, 170:234]
    missing = np.zeros((64, 64), np.uint8)
    if kind == "letters":
        cv2.putText(missing, "ABC", (4, 42), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 4)
    elif kind == "90 %":
        missing = (np.random.default_rng(0).random((64, 64)) < 0.9).astype("uint8")
    else:
        first, last = (27, 37) if kind == "small hole" else (18, 46)
        missing[first:last, first:last] = 1
    hidden = missing > 0
    degraded = clean.copy()
    degraded[hidden] = 255
    restored = (
        iv.restore(degraded / 255, task="inpaint", mask=hidden, noise=0.002).image.pixels.permute(1, 2, 0).numpy()
    )
    psnr = lambda r: -10 * np.log10(((np.clip(r, 0, 1)[hidden] - clean[hidden] / 255) ** 2).mean())  # noqa: E731
    telea = cv2.inpaint(degraded, hidden.astype("uint8"), 3, cv2.INPAINT_TELEA) / 255
    assert psnr(restored) > psnr(telea) - 0.3
    if kind == "90 %":
        places, wanted = np.argwhere(~hidden), np.argwhere(np.ones_like(hidden))
        filled = [griddata(places, clean[~hidden] / 255, wanted, method) for method in ("linear", "nearest")]
        linear = np.where(np.isnan(filled[0]), filled[1], filled[0]).reshape(64, 64, 3)
        assert psnr(restored) > psnr(linear) + 0.5


def test_momentum_begins_the_data_step_ahead():
    """What was not measured is z + momentum (z - z'), where the prior leaves its input as it is."""

    class Drift(priors.GaussianPrior):
        def denoise(self, x_t, t):
            return x_t / self.schedule(t)[0] + 0.01

    prior = Drift(torch.full(toy.SHAPE, 0.5, dtype=torch.float64), 0.04)
    prior.value_range, prior.bounded = (0.0, 1.0), False
    mask = torch.ones(toy.SHAPE[-2:])
    mask[0, 0] = 0
    a = operators.Inpainting(toy.SHAPE, mask)
    problem = iv.Problem(
        prior, costs.GaussianLikelihood(a, torch.full((1, *toy.SHAPE), 0.5, dtype=torch.float64), 0.05)
    )
    states = exact.run(problem, solvers.PnPHQS(n_steps=4, momentum=0.5), 1, iv.Rng(0, [(0,)]))
    hidden = [float(state.x[0, 0, 0, 0]) for state in states[-4:]]
    steps = [0.01, 0.015, 0.0175, 0.01875]  # each one hundredth and half of the step before
    assert hidden == pytest.approx([0.5 + sum(steps[: k + 1]) for k in range(4)], abs=1e-4)
