"""Operators made of operators: shapes, adjoints, closed forms that survive, parameters that find their part."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor

import invsolve as iv
from invsolve import costs, operators
from invsolve.core.operator import EMPTY, Params
from invsolve.testing import check_operator

SHAPE = (2, 8, 12)


def mask(seed: int = 0) -> operators.Inpainting:
    return operators.Inpainting.random(SHAPE, 0.6, rng=iv.Rng(seed))


def blur(std: float = 1.0, padding: str = "circular") -> iv.LinearOperator:
    return operators.GaussianBlur(SHAPE, std, padding)


SHIFTED = operators.MotionBlur(SHAPE, 5, 20.0)

COMPOSED = {
    "mask of blur": lambda: mask() @ blur(),
    "smaller of mask": lambda: operators.SuperResolution(SHAPE, 2) @ mask(),
    "two blurs": lambda: SHIFTED @ blur(0.8),
    "two mirrored blurs": lambda: blur(1.0, "symmetric") @ blur(0.8, "symmetric"),
    "two masks": lambda: mask(0) @ mask(1),
    "sum": lambda: 0.5 * blur() + 0.5 * operators.Denoising(SHAPE),
    "sum of blurs": lambda: SHIFTED + (-0.3) * blur(),
    "stack": lambda: operators.Stack(operators.SuperResolution(SHAPE, 2), blur(0.7), mask()),
    "stack of blurs": lambda: operators.Stack(blur(0.7), SHIFTED),
    "crop of blur": lambda: operators.Crop(SHAPE, 1, 2, 6, 8) @ blur(),
    "pad": lambda: operators.Pad(SHAPE, (1, 2), (3, 0)),
    "multiple": lambda: 2.5 * operators.SuperResolution(SHAPE, 2),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_operators_keep_the_contract(name):
    check_operator(COMPOSED[name](), solve_tol=1e-5).raise_if_failed()


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_operators_are_what_their_parts_make(name):
    x = torch.rand(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    want = {
        "mask of blur": lambda: mask()(blur()(x)),
        "smaller of mask": lambda: operators.SuperResolution(SHAPE, 2)(mask()(x)),
        "two blurs": lambda: SHIFTED(blur(0.8)(x)),
        "two mirrored blurs": lambda: blur(1.0, "symmetric")(blur(0.8, "symmetric")(x)),
        "two masks": lambda: mask(0)(mask(1)(x)),
        "sum": lambda: 0.5 * blur()(x) + 0.5 * x,
        "sum of blurs": lambda: SHIFTED(x) - 0.3 * blur()(x),
        "stack": lambda: torch.cat(
            [operators.SuperResolution(SHAPE, 2)(x).flatten(1), blur(0.7)(x).flatten(1), mask()(x).flatten(1)], 1
        ),
        "stack of blurs": lambda: torch.cat([blur(0.7)(x).flatten(1), SHIFTED(x).flatten(1)], 1),
        "crop of blur": lambda: blur()(x)[..., 1:7, 2:10],
        "pad": lambda: torch.nn.functional.pad(x, (3, 0, 1, 2)),
        "multiple": lambda: 2.5 * operators.SuperResolution(SHAPE, 2)(x),
    }[name]()
    torch.testing.assert_close(COMPOSED[name]()(x), want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["two blurs", "two mirrored blurs", "two masks", "sum of blurs"])
def test_closed_forms_survive(name):
    assert isinstance(COMPOSED[name](), iv.SVDOperator)


def test_differences_negatives_and_factors_on_either_side():
    x = torch.rand(2, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close((blur() - mask())(x), blur()(x) - mask()(x))
    torch.testing.assert_close((-blur())(x), -blur()(x))
    torch.testing.assert_close((blur() * 2)(x), 2 * blur()(x))


def test_a_surrogate_gradient_stays_one_in_what_is_made_of_it():
    rounded = operators.Quantisation(SHAPE)
    for made in (rounded @ blur(), 2.0 * rounded, rounded + blur(), operators.Stack(rounded, blur())):
        assert made.surrogate_gradient
        check_operator(made, skip=["sees all of [0, 1]"]).raise_if_failed()
    assert not (blur() @ mask()).surrogate_gradient


@pytest.mark.parametrize("made", [lambda: blur(), lambda: operators.SuperResolution(SHAPE, 2)])
def test_a_multiple_keeps_every_digit_of_its_factor(made):
    x, third = torch.rand(1, *SHAPE, dtype=torch.float64), (1 / 3) * made()
    assert torch.equal(pickle.loads(pickle.dumps(third))(x), third(x))
    assert repr(third) != repr(0.333333 * made())


def test_a_stack_of_blurs_solves_in_closed_form(monkeypatch):
    monkeypatch.setattr("invsolve.core.operator.conjugate_gradient", lambda *a, **k: pytest.fail("iterated"))
    stack = operators.Stack(blur(0.7), SHIFTED)
    b = torch.rand(2, *SHAPE, dtype=torch.float64)
    x = stack.solve_normal(b, 0.1)
    torch.testing.assert_close(stack.normal(x) + 0.1 * x, b, rtol=1e-9, atol=1e-9)


def test_shapes_are_checked_when_operators_are_made():
    small = operators.SuperResolution(SHAPE, 2)
    with pytest.raises(iv.ShapeError, match=r"makes \[2, 4, 6\].*takes \[2, 8, 12\]"):
        blur() @ small
    with pytest.raises(iv.ShapeError):
        blur() + small
    with pytest.raises(iv.ShapeError):
        operators.Stack(blur(), operators.Denoising((2, 4, 6)))
    with pytest.raises(iv.ShapeError):
        operators.Crop(SHAPE, 4, 0, 6, 4)


class Gamma(iv.Operator):
    """y = x ** gamma."""

    in_shape = out_shape = SHAPE
    parameters = ("gamma",)

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return x.clamp_min(1e-6) ** theta["gamma"].view(-1, 1, 1, 1)


def test_parameters_find_their_part():
    both = Gamma() @ operators.BlindBlur(SHAPE, (3, 3))
    assert both.parameters == ("gamma", "kernel")
    theta = {"gamma": torch.tensor([1.5, 2.0]), "kernel": torch.full((2, 3, 3), 1 / 9)}
    x = torch.rand(2, *SHAPE)
    blurred = operators.BlindBlur(SHAPE, (3, 3))(x, {"kernel": theta["kernel"]})
    torch.testing.assert_close(both(x, theta), Gamma()(blurred, {"gamma": theta["gamma"]}))
    with pytest.raises(iv.CapabilityError, match="shift"):
        both(x, {**theta, "shift": torch.zeros(2)})
    check_operator(both, batch=2, theta={k: v.double() for k, v in theta.items()}, low=0.1).raise_if_failed()


def test_rows_are_selected_in_every_part():
    masks = operators.Inpainting.random(SHAPE, 0.5, rng=iv.Rng(0), samples=3)
    x, rows = torch.rand(3, *SHAPE), torch.tensor([2, 0])
    for operator in (masks @ blur(), masks + blur(), 2.0 * masks, operators.Stack(masks, blur()), masks @ mask()):
        torch.testing.assert_close(operator.select(rows)(x[rows]), operator(x)[rows])
        torch.testing.assert_close(pickle.loads(pickle.dumps(operator))(x), operator(x))


def test_stacked_likelihoods_are_the_sum_of_likelihoods():
    small, seen = operators.SuperResolution(SHAPE, 2), mask()
    x = torch.rand(2, *SHAPE, dtype=torch.float64)
    one = costs.GaussianLikelihood(small, small(x) + 0.1, 0.05)
    two = costs.GaussianLikelihood(seen, seen(x) - 0.2, 0.2)
    stacked = costs.stacked_likelihood(one, two)
    other = torch.rand(2, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(stacked(x) - stacked(other), one(x) + two(x) - one(other) - two(other))
    with pytest.raises(iv.CapabilityError):
        costs.stacked_likelihood(one, costs.LaplaceLikelihood(seen, None, 0.1))
