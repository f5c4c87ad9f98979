"""Likelihoods are the densities they claim to be; costs add and scale."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import toy
from scipy import stats

import invsolve as iv
from invsolve import costs, operators, priors, solvers
from invsolve.core.operator import EMPTY

SHAPE = (1, 4, 4)
A = operators.SuperResolution(SHAPE, 2)


def image(n: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gaussian_energy_is_scipys_negative_log_density():
    x, y, sigma = image(), torch.rand(3, 1, 2, 2, dtype=torch.float64), torch.tensor([0.1, 0.2, 0.3])
    want = -stats.norm.logpdf(y.numpy(), A(x).numpy(), sigma.double().numpy().reshape(3, 1, 1, 1)).sum((1, 2, 3))
    torch.testing.assert_close(costs.GaussianLikelihood(A, y, sigma)(x), torch.from_numpy(want), rtol=1e-6, atol=0)


def test_poisson_energy_is_scipys_negative_log_mass():
    x = image()
    likelihood = costs.PoissonLikelihood(A, None, peak=50.0, background=2.0)
    y = likelihood.simulate(x, iv.Rng(0))
    rate = 50.0 * A(x).clamp_min(0) + 2.0
    want = -stats.poisson.logpmf((50 * y).round().numpy(), rate.numpy()).sum((1, 2, 3))
    got = costs.PoissonLikelihood(A, y, peak=50.0, background=2.0)(x)
    torch.testing.assert_close(got, torch.from_numpy(want), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_simulated_noise_has_the_stated_moments(kind):
    x, n = image(1), 4000
    many = x.expand(n, *SHAPE)
    if kind == "gaussian":
        draws, clean = costs.GaussianLikelihood(A, None, 0.1).simulate(many, iv.Rng(0)), A(x)[0]
        variance = torch.full_like(clean, 0.01)
    else:
        draws, clean = costs.PoissonLikelihood(A, None, peak=20.0).simulate(many, iv.Rng(0)), A(x)[0]
        variance = clean / 20
    assert ((draws.mean(0) - clean) / (variance / n).sqrt()).abs().max() < 5
    assert (draws.var(0) / variance - 1).abs().max() < 6 * (2 / n) ** 0.5


def test_costs_add_and_scale_and_select():
    y = image(3, seed=1)
    likelihood = costs.GaussianLikelihood(operators.Denoising(SHAPE), y, 0.1)
    reward = costs.FunctionCost(lambda x: x.flatten(1).sum(1))
    x, total = image(3, seed=2), likelihood + 2.0 * reward
    torch.testing.assert_close(total(x), likelihood(x) + 2 * reward(x))
    assert total.items == 3
    rows = torch.tensor([2, 2])
    torch.testing.assert_close(total.select(rows)(x[rows]), total(x)[rows])


class WithGain(torch.nn.Module):
    def forward(self, x, theta):
        return (theta["gain"] * x).flatten(1).sum(1)


@pytest.mark.parametrize(
    ("function", "blind"),
    [
        (lambda x: x.flatten(1).sum(1), False),
        (torch.squeeze, False),
        (lambda x, scale=3.0: scale * x.flatten(1).sum(1), False),
        (lambda x, theta: (theta["gain"] * x).flatten(1).sum(1), True),
        (lambda x, theta=None: (theta["gain"] * x).flatten(1).sum(1), True),
        (WithGain(), True),
    ],
)
def test_a_function_gets_the_parameters_if_it_takes_them(function, blind):
    x, theta = torch.rand(3, 1, 1, 1), {"gain": torch.tensor(2.0)}
    weight = 2.0 if blind else 3.0 if getattr(function, "__defaults__", None) else 1.0
    assert torch.equal(costs.FunctionCost(function)(x, theta), weight * x.flatten(1).sum(1))


def test_gradients_match_finite_differences():
    y = torch.rand(2, 1, 2, 2, dtype=torch.float64)
    for cost in (costs.GaussianLikelihood(A, y, 0.1), costs.PoissonLikelihood(A, y, peak=30.0)):
        assert torch.autograd.gradcheck(cost, image(2).requires_grad_())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: costs.GaussianLikelihood(A, None, -0.1), "sigma"),
        (lambda: costs.GaussianLikelihood(A, None, 0.0), "small one"),
        (lambda: costs.GaussianLikelihood(A, torch.zeros(1, 1, 3, 3), 0.1), "shape"),
        (lambda: costs.GaussianLikelihood(A, torch.full((1, 1, 2, 2), torch.nan), 0.1), "not finite"),
        (lambda: costs.GaussianLikelihood(A, None, 0.1)(image()), "no measurement"),
        (lambda: costs.PoissonLikelihood(A, -torch.ones(1, 1, 2, 2), 1.0), "negative"),
        (lambda: costs.PoissonLikelihood(A, None, 0.0), "peak"),
        (lambda: costs.FunctionCost(lambda x: x.sum())(image()), "one number for each sample"),
    ],
)
def test_bad_costs_are_refused(make, message):
    with pytest.raises(iv.InputError, match=message):
        make()


# what differs from item to item


@dataclass(frozen=True, eq=False)
class Cauchy(iv.Likelihood):
    """A likelihood of one's own whose parameter has a name of its own, and which declares nothing."""

    operator: Any
    y: torch.Tensor
    width: Any = 0.1

    def __call__(self, x, theta=EMPTY):
        residual = self.residual(x, theta).flatten(1)
        width = torch.as_tensor(self.width, dtype=x.dtype).flatten(1) if self._maps else self._column(x)
        return (1 + (residual / width) ** 2).log().sum(1)

    @property
    def _maps(self) -> bool:
        return isinstance(self.width, torch.Tensor) and self.width.ndim > 1

    def _column(self, x):
        return torch.as_tensor(self.width, dtype=x.dtype, device=x.device).reshape(-1, 1)

    def simulate(self, x, rng, theta=EMPTY):
        raise NotImplementedError


class Declared(Cauchy):
    per_item = ("width",)


class Shared(Cauchy):
    per_item = ()


class Plain(iv.Likelihood):
    """No dataclass."""

    def __init__(self, operator, y, width):
        self.operator, self.y, self.width = operator, y, width

    __call__, _maps, _column, simulate = Cauchy.__call__, Cauchy._maps, Cauchy._column, Cauchy.simulate


class Late(Cauchy):
    """Checks of its own that forget those of the base."""

    def __post_init__(self) -> None:
        pass


D = operators.Denoising(SHAPE)


@pytest.mark.parametrize("kind", [Cauchy, Declared, Plain, Late])
@pytest.mark.parametrize("width", [torch.tensor([0.1, 0.5, 2.0]), image(3, seed=8) + 0.1], ids=["numbers", "maps"])
def test_a_parameter_with_one_value_an_item_is_taken_with_its_item_whatever_its_name(kind, width):
    cost, x = kind(D, image(3, seed=1), width), image(3, seed=2)
    rows = torch.tensor([2, 0, 2])
    torch.testing.assert_close(cost.select(rows)(x[rows]), cost(x)[rows])
    moved = cost.to("cpu", torch.float32)
    assert moved.width.dtype == moved.y.dtype == moved(x.float()).dtype == torch.float32
    problem = iv.Problem(priors.GaussianPrior(torch.full(SHAPE, 0.5), 0.04), (cost * torch.tensor([1.0, 2.0, 3.0])))
    whole = iv.solve(problem, solvers.DPS(n_steps=4), samples=2).samples
    for size in (1, 4):
        parts = iv.solve(problem, solvers.DPS(n_steps=4), samples=2, microbatch=size).samples
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [Cauchy, Plain])
def test_a_tensor_that_could_be_either_is_refused_until_it_is_declared(kind):
    y, weight = torch.rand(1, 3, 4, 4).expand(3, 3, 4, 4), torch.rand(3, 4, 4)
    with pytest.raises(iv.InputError, match="may be the same for all of 3 items or have one value for each"):
        iv.Problem(priors.GaussianPrior(torch.zeros(3, 4, 4), 1.0), kind(operators.Denoising((3, 4, 4)), y, weight))
    shared = Shared(operators.Denoising((3, 4, 4)), y, weight)
    assert shared.select(torch.tensor([1])).width is weight
    assert len(Declared(operators.Denoising((3, 4, 4)), y, weight).select(torch.tensor([1])).width) == 1
    assert Cauchy(operators.Denoising((3, 4, 4)), y[:2], weight).select(torch.tensor([1])).width is weight


def test_what_a_derived_likelihood_adds_is_taken_by_rows():
    @dataclass(frozen=True, eq=False)
    class Robust(costs.GaussianLikelihood):
        width: float | torch.Tensor = 1.0

        def __call__(self, x, theta=EMPTY):
            width = torch.as_tensor(self.width).reshape(-1, 1)
            return torch.log1p((self.residual(x, theta).flatten(1) / width).square()).sum(1)

    cost, x, rows = Robust(D, image(3, seed=1), 0.1, torch.tensor([0.1, 0.5, 2.0])), image(3), torch.tensor([2, 0])
    torch.testing.assert_close(cost.select(rows)(x[rows]), cost(x)[rows])
    with pytest.raises(iv.InputError, match=r"width must be one number or one for each of 3 items.*per_item"):
        Robust(D, image(3), 0.1, torch.rand(2))


def test_costs_in_a_list_are_parts_as_those_in_a_tuple():
    class Many(iv.TerminalCost):
        def __init__(self, parts):
            self.parts = parts

        def __call__(self, x, theta=EMPTY):
            return sum((part(x) for part in self.parts), x.new_zeros(len(x)))

    x, rows = image(3), torch.tensor([2, 0])
    for kind in (list, tuple):
        cost = Many(kind([Cauchy(D, image(3, seed=s), torch.rand(3) + 0.1) for s in (1, 2)]))
        assert cost.items == 3
        assert isinstance(cost.select(rows).parts, kind)
        torch.testing.assert_close(cost.select(rows)(x[rows]), cost(x)[rows])


def test_a_cost_without_an_energy_for_each_sample_is_refused():
    class Scalar(iv.TerminalCost):
        def __call__(self, x, theta=EMPTY):
            return x.square().sum()

    with pytest.raises(iv.InputError, match=r"Scalar must return one number for each sample, shape \[2\], got \[\]"):
        iv.Problem(PRIOR, Scalar()).energy(torch.zeros(2, *PRIOR.shape))


def test_other_costs_and_their_parts_take_rows_too():
    @dataclass(frozen=True, eq=False)
    class Near(iv.TerminalCost):
        target: torch.Tensor
        inner: iv.TerminalCost
        per_item = ("target",)

        def __call__(self, x, theta=EMPTY):
            return (x - self.target).square().flatten(1).sum(1) + self.inner(x)

    cost, x, rows = Near(image(3, seed=3), Cauchy(D, image(3, seed=1), torch.rand(3))), image(3), torch.tensor([1, 1])
    assert cost.items == 3
    torch.testing.assert_close(cost.select(rows)(x[rows]), cost(x)[rows])
    with pytest.raises(iv.InputError, match=r"one number of items, got \[2, 3\]"):
        Near(image(2), Cauchy(D, image(3), 0.1))
    labels = costs.ClassifierCost(lambda x: x.flatten(1), torch.tensor([0, 5, 2]), 16)
    torch.testing.assert_close(labels.select(rows)(x[rows]), labels(x)[rows])
    assert labels.to("cpu", torch.float32).target.dtype == torch.int64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cauchy(D, image(3), torch.rand(2)), "width must be one number or one for each of 3 items.*per_item"),
        (lambda: Cauchy(D, image(3), np.array([0.1, 0.2, 0.3])), "width must be a number or a tensor, got ndarray"),
        (lambda: Declared(D, image(3), [0.1, 0.2, 0.3]), "width must be a number or a tensor, got list"),
        (lambda: Declared(D, image(3), torch.rand(2)), "width must be one number or one for each of 3 items"),
        (lambda: type("Wrong", (Cauchy,), {"per_item": ("with",)})(D, image(3)), "names 'with', which Wrong does not"),
        (lambda: iv.Problem(PRIOR, Plain(D, image(3), torch.rand(2))), "width must be one number"),
        (lambda: iv.Problem(PRIOR, Plain(lambda x: x, image(3), 0.1)), "as_operator"),
        (lambda: iv.Problem(PRIOR, Bare()), "needs the attributes operator and y, it has none"),
        (lambda: costs.GaussianLikelihood(D, image(3), torch.rand(3, 1, 1, 1) + 1), r"for each item \[B\]"),
        (lambda: costs.PoissonLikelihood(D, image(3), torch.rand(3) + 1), "peak must be a finite number above 0"),
        (lambda: costs.ImpulseLikelihood(D, image(3), 0.1, 1.0), r"probability must be a finite number in \(0, 1\)"),
        (lambda: costs.GaussianLikelihood(D, image(2), 0.1) * torch.rand(3), r"one number of items, got \[2, 3\]"),
    ],
)
def test_what_no_rows_could_be_taken_of_is_refused(make, message):
    with pytest.raises(iv.InputError, match=message):
        make()


PRIOR = priors.GaussianPrior(torch.full(SHAPE, 0.5), 0.04)


class Bare(Plain):
    def __init__(self):
        pass


@pytest.mark.parametrize(
    "name", ["ndtm", "dps", "red-diff", "daps", "mpgd", "freedom", "lgd-mc", "tds", "guidance", "ftm"]
)
@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x > 0.5).double().flatten(1).mean(1),
        lambda x: torch.from_numpy(x.numpy()).flatten(1).sum(1),
        lambda x: x.detach().flatten(1).sum(1),
    ],
)
def test_a_cost_without_a_gradient_names_the_solver_that_needs_none(name, function):
    problem = iv.Problem(toy.gaussian(), costs.FunctionCost(function))
    solver = toy.quick(name)
    solver = dataclasses.replace(solver, start="random") if name in ("ndtm", "red-diff", "ftm") else solver
    with pytest.raises(iv.CapabilityError, match="SCG"):
        iv.solve(problem, solver)
    assert iv.solve(problem, toy.quick("scg")).status == (("ok",),)


def test_what_stands_in_missing_pixels_does_not_matter_unless_it_is_noise_of_the_published_runs():
    mask = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]])
    operator = operators.Inpainting((1, 2, 3), mask)
    image = torch.tensor([[[[0.2, 0.9, 0.4], [0.6, 0.8, 0.3]]]]).double()
    zeros = operator(image)
    noise = torch.where(mask != 0, zeros, torch.tensor(0.01).double())
    cases = {"white": 1.0, "nan": float("nan"), "faint": 0.05}
    painted = [torch.where(mask != 0, zeros, torch.tensor(value).double()) for value in cases.values()]
    y = costs.GaussianLikelihood(operator, torch.cat([*painted, noise]), 0.01).measurement
    assert torch.equal(y[:3], zeros.expand(3, -1, -1, -1))
    assert torch.equal(y[3:], noise)  # row by row: what the others hold does not matter
