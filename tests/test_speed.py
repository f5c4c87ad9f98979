"""What makes steps cheap changes no result: formulas for gradients, predictions worked out late, precisions, paces."""

from __future__ import annotations

import math

import pytest
import torch
import toy

import invsolve as iv
from benchmarks.speed.published import published_ndtm
from invsolve import costs, operators, priors, solvers
from invsolve.core.checks import InputError
from invsolve.core.counting import Calls, CountingPrior
from invsolve.core.operator import LinearOperator
from invsolve.core.prior import Prediction, Prior, WrappedPrior
from invsolve.core.schedule import path
from invsolve.noise.estimate import estimate_noise
from invsolve.noise.network import packaged_noise_network
from invsolve.priors.networks.adm import ADMUNet
from invsolve.priors.networks.adm_config import ADMConfig
from invsolve.restoration import pace, restore
from invsolve.restoration.options import Options
from invsolve.restoration.prepare import paced, prepare
from invsolve.restoration.settings import QUALITIES, build, choose, table
from invsolve.solvers.steps.gradients import Parameters, descend, energy_gradient
from invsolve.solvers.steps.updates import ddim, guided_ddim
from invsolve.testing.toy import textures

MASK = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.4
OPERATORS = {
    "inpainting": lambda: operators.Inpainting(toy.SHAPE, MASK),
    "denoising": lambda: operators.Denoising(toy.SHAPE),
    "super-resolution": lambda: operators.SuperResolution(toy.SHAPE, 2),
    "blur": lambda: operators.GaussianBlur(toy.SHAPE, 0.8),
}


def problem(operator: LinearOperator, value_range: tuple[float, float] = (-1.0, 1.0)) -> iv.Problem:
    y = operator(toy.gaussian().sample(3, iv.Rng(1)))
    return iv.Problem(toy.gaussian(value_range), costs.GaussianLikelihood(operator, y, 0.05))


@pytest.mark.parametrize("name", OPERATORS)
def test_the_formula_of_a_linear_misfit_is_its_gradient(name):
    p = problem(OPERATORS[name]())
    x = iv.Rng(2).normal(p.empty(3)).requires_grad_()
    curved, near = x.sin(), 0.5 * x
    found = descend(p, curved, x, Parameters({}, {}), 3.0, [(near, 0.7)])
    assert isinstance(p.cost, costs.GaussianLikelihood)
    misfit = (2.0 * p.cost.residual((x.sin() + 1) / 2)).square().flatten(1).sum(1)
    (want,) = torch.autograd.grad((3.0 * misfit + 0.7 * (0.5 * x).square().flatten(1).sum(1)).sum(), x)
    assert torch.allclose(found.gradient, want, rtol=1e-10, atol=1e-10)
    assert torch.allclose(found.misfit, misfit.detach(), rtol=1e-10)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_gradient_of_a_linear_gaussian_energy_is_its_formula(name):
    operator = OPERATORS[name]()
    y = operator(toy.gaussian().sample(3, iv.Rng(1)))
    cost = costs.GaussianLikelihood(operator, y, torch.tensor([0.02, 0.1, 0.5], dtype=torch.float64))
    p = iv.Problem(toy.gaussian((-1.0, 1.0)), cost)
    x = iv.Rng(2).normal(p.empty(3)).requires_grad_()
    (want,) = torch.autograd.grad(p.energy(x).sum(), x)
    torch.testing.assert_close(energy_gradient(p, x.detach()), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("formula", [True, False])
def test_transient_terms_and_limits_of_the_estimate_have_the_gradient_of_the_whole(formula):
    p = problem(OPERATORS["inpainting"]())
    if not formula:  # another cost than a linear Gaussian likelihood
        p = iv.Problem(p.prior, costs.FunctionCost(lambda x: x.square().flatten(1).sum(1)))
    p.prior.bounded = True
    x = iv.Rng(2).normal(p.empty(3)).requires_grad_()
    x0, anchor = 1.5 * x.sin(), torch.ones_like(x)
    transient = [(0.3 * x0 - 0.4 * x + anchor, 0.7)]
    found = descend(p, x0, x, Parameters({}, {}), 2.0, transient, clamp=True)
    again = 1.5 * x.sin()
    assert (again.abs() > 1).any()
    assert torch.equal(found.x0, again.detach().clamp(-1, 1))
    whole = 2.0 * p.misfit(again.clamp(-1, 1), {}).sum() + 0.7 * (0.3 * again - 0.4 * x + anchor).square().sum()
    (want,) = torch.autograd.grad(whole, x)
    assert torch.allclose(found.gradient, want, rtol=1e-10, atol=1e-10)


class Noisy(WrappedPrior):
    """The other prior, its noise an output instead of a formula."""

    def predict(self, x_t, t):
        found = Prior.predict(self.prior, x_t, t)
        return Prediction(found.x0, found.eps)


@pytest.mark.parametrize(
    "solver",
    [solvers.NDTM(n_steps=4, n_inner=3, weights="ddim", weight=5.0, gamma=0.7, lr=0.05), solvers.DDRM(eta_b=0.7)],
    ids=lambda s: s.name,
)
def test_steps_are_the_same_whether_the_noise_is_an_output_or_a_formula(solver):
    p = problem(OPERATORS["inpainting"]())
    other = iv.Problem(Noisy(p.prior), p.cost)
    assert torch.allclose(iv.solve(other, solver).samples, iv.solve(p, solver).samples, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("lam", [0.3, torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)])
def test_an_operators_own_ridge_is_the_solution_of_its_normal_equations(name, lam):
    operator = OPERATORS[name]()
    residual = operator(iv.Rng(3).normal(torch.empty(3, *toy.SHAPE, dtype=torch.float64)))
    want = operator.solve_normal(operator.adjoint(residual), lam)
    assert torch.allclose(operator.ridge(residual, lam), want, atol=1e-10)


def test_a_guided_step_is_a_ddim_step_with_the_noise_of_the_guided_estimate():
    for now in path(iv.DDPMSchedule(), 5):
        x_t, x0 = (iv.Rng(seed).normal(torch.empty(2, *toy.SHAPE, dtype=torch.float64)) for seed in (0, 1))
        eps = (x_t - now.alpha_t * x0) / now.sigma_t
        want = ddim(now, 0.6, x0, eps, iv.Rng(2))
        assert torch.allclose(guided_ddim(now, 0.6, x_t, x0, iv.Rng(2)), want, atol=1e-12)


def test_noise_that_nobody_asks_for_is_never_worked_out_and_belongs_to_the_graph_of_its_estimate():
    asked = []
    x = torch.ones(2, requires_grad=True)

    def eps() -> torch.Tensor:
        asked.append(1)
        return 3.0 * x

    prediction = Prediction(2.0 * x, eps)
    assert not asked
    with torch.no_grad():
        assert prediction.eps.requires_grad
        assert prediction.eps is prediction.eps
    assert len(asked) == 1
    assert not Prediction(2.0 * x, eps).detach().eps.requires_grad


def test_every_gradient_through_the_network_is_counted_and_no_other():
    prior = CountingPrior(toy.gaussian(), Calls())
    x = iv.Rng(0).normal(torch.empty(3, *toy.SHAPE, dtype=torch.float64)).requires_grad_()
    x0 = prior.denoise(x, 0.5)
    torch.autograd.grad(x0.sum(), x, retain_graph=True)
    torch.autograd.grad((x0 + x).sum(), x)
    torch.autograd.grad(x.square().sum(), x)
    with torch.no_grad():
        prior.predict(x, 0.5)
    assert (prior.calls.forward_rows, prior.calls.backward_rows) == (6, 6)


class Counted(torch.nn.Module):
    """A small network of the published family, its calls counted."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = ADMUNet(ADMConfig(32, (1, 1), 1, (False, True), head_channels=16)).double(), 0
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in self.inner.parameters():
                weight.normal_(std=0.05, generator=generator)

    def forward(self, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.inner(x, index)


@pytest.mark.parametrize("n_inner", [2, 5])
def test_ndtm_makes_two_calls_a_step_less_than_the_published_loop_and_the_same_images(n_inner):
    operator = operators.SuperResolution((3, 16, 16), 4)
    module, steps = Counted(), 2
    y = operator(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    p = iv.Problem(priors.NetworkPrior(module, "eps"), costs.GaussianLikelihood(operator, y, 0.005))
    solver = solvers.NDTM(n_steps=steps, n_inner=n_inner, t_start=0.4, weight=50.0, weights="ddim")
    own = p.from_image(iv.solve(p, solver).samples[:, 0])
    assert module.calls == steps * (n_inner + 1)
    assert not any(weight.requires_grad for weight in module.parameters())
    module.calls = 0
    theirs = published_ndtm(module, operator, p.linear_data.y, solver, iv.Rng(0, [(0, 0)]), steps)
    assert module.calls == steps * (n_inner + 3)
    assert (own - theirs).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("solver", "calls"),
    [
        (solvers.PnPHQS(n_steps=5), (5, 0)),
        (solvers.NDTM(n_steps=4, n_inner=3), (16, 12)),
        (solvers.DPS(n_steps=8), (8, 8)),
    ],
)
def test_the_calls_of_a_solver_are_known_before_it_runs(solver, calls):
    assert pace.network_calls(solver, iv.DDPMSchedule()) == calls


@pytest.mark.parametrize("task", list(table("natural")))
def test_qualities_go_from_few_calls_to_many(task):
    name = choose("natural", task, sampling=False)
    calls = [sum(pace.network_calls(build(name, "natural", task, {}, q), iv.DDPMSchedule())) for q in QUALITIES]
    assert calls[0] < calls[1] < calls[2]


@pytest.mark.parametrize(("limit", "quality"), [(1e9, "best"), (1e-9, "fast")])
def test_a_time_limit_picks_the_best_quality_that_it_allows(limit, quality, caplog, monkeypatch):
    monkeypatch.setattr(pace, "_timed", lambda prior, x, *, gradient: 0.01)
    prior = iv.priors.GaussianPrior(torch.zeros(3, 8, 8), 0.1)
    prior.shape = None
    monkeypatch.setattr(prior, "denoise", lambda x, t: 0.5 * x)
    done = restore(torch.rand(3, 8, 8), "denoise", noise=0.1, prior=prior, time_limit=limit)
    assert done.record["quality"] == quality
    assert ("more than the limit" in caplog.text) == (quality == "fast")


def test_time_that_has_gone_by_counts_against_the_limit(monkeypatch):
    monkeypatch.setattr(pace, "_timed", lambda prior, x, *, gradient: 0.01)
    prior = iv.priors.GaussianPrior(torch.zeros(3, 8, 8), 0.1)
    prior.shape = None  # a local prior, as natural is
    job = prepare(torch.rand(3, 8, 8), Options(task="denoise", noise=0.1, prior=prior, time_limit=10.0))
    assert paced(job, prior).options.quality == "best"
    assert paced(job, prior, spent=10.0).options.quality == "fast"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quality": "good"}, "quality must be one of"),
        ({"quality": "fast", "samples": 2, "solver": "dps"}, "no settings of quality"),
        ({"time_limit": 0.0}, "above 0"),
        ({"time_limit": math.nan}, "finite number"),
        ({"time_limit": 5.0, "checkpoint": "run.pt"}, "checkpoint"),
    ],
)
def test_paces_that_make_no_sense_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        restore(torch.rand(3, 8, 8), "denoise", **options)


@pytest.mark.parametrize(
    ("can", "gains"),
    [
        ({"amx_bf16": True, "avx512_bf16": True, "avx512_fp16": True}, True),
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": True, "avx512_fp16": True}, False),  # AMX hidden by a virtual machine
        ({"amx_bf16": False}, False),
    ],
)
def test_bfloat16_is_for_the_packaged_priors_alone_where_the_processor_gains_by_it(monkeypatch, can, gains):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
    for name in ("natural", "natural-deep"):
        assert pace.precision_of("auto", name, cpu) == (torch.bfloat16 if gains else None)
    assert pace.precision_of("auto", "ffhq256", cpu) is None
    assert pace.precision_of("float32", "natural", cpu) is None
    assert pace.precision_of("bfloat16", "ffhq256", cpu) == torch.bfloat16
    with pytest.raises(InputError, match="precision must be one of"):
        pace.precision_of("double", "natural", cpu)


def test_states_stay_in_float32_behind_a_network_in_bfloat16():
    prior = priors.load("natural", dtype=torch.bfloat16)
    x = torch.zeros(1, 3, 32, 32)
    exact = priors.load("natural").denoise(x, 0.2)
    assert prior.dtype == torch.float32
    assert prior.denoise(x, 0.2).dtype == torch.float32
    assert 0 < (prior.denoise(x, 0.2) - exact).abs().max() < 0.03


@pytest.mark.parametrize(
    "setting",
    [lambda: torch.autocast("cpu", torch.bfloat16), lambda: torch.device("meta"), torch.inference_mode],
    ids=["autocast", "default device", "inference mode"],
)
@pytest.mark.parametrize("options", [{"task": "denoise"}, {"task": "jpeg", "compression": 40, "simulate": True}])
def test_settings_of_the_caller_change_nothing(setting, options):
    """Autocast would round the block cosines of a JPEG file; tensors of a default device could not be mixed."""
    image = torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0))
    settings = {"precision": "float32", "quality": "fast", "device": "cpu", **options}
    plain = restore(image, **settings).image.pixels
    level = estimate_noise(image).sigma
    likelihood = costs.GaussianLikelihood(
        operators.Inpainting((3, 12, 12), torch.ones(12, 12)), image[None, :, :12, :12], 0.1
    )
    problem = iv.Problem(textures(), likelihood)
    drawn = iv.solve(problem, solvers.DPS(n_steps=3)).samples
    packaged_noise_network.cache_clear()
    with setting():
        assert torch.equal(iv.solve(problem, solvers.DPS(n_steps=3)).samples, drawn)
        assert torch.equal(restore(image, **settings).image.pixels, plain)
        (outcome,) = iv.restore_many([image], **settings)
        assert outcome.restoration is not None, outcome.error
        assert torch.equal(outcome.restoration.image.pixels, plain)
        assert estimate_noise(image).sigma == level
