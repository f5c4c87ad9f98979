"""The public checks catch what they are for: each broken operator fails by the name of what is broken."""

import pytest
import torch

from invsolve.core.checks import InputError
from invsolve.core.operator import EMPTY, LinearOperator, Operator
from invsolve.core.rng import Rng
from invsolve.core.svd import SVDOperator
from invsolve.operators import Blur, Denoising, GaussianBlur
from invsolve.testing import ConformanceError, ReplayRng, check_operator

SHAPE = (2, 5, 6)


class Doubling(LinearOperator):
    """A correct operator, of which each test breaks one thing."""

    in_shape = out_shape = SHAPE

    def forward(self, x, theta=EMPTY):
        return 2.0 * x


class WrongAdjoint(Doubling):
    def adjoint(self, y, theta=EMPTY):
        return y


class WrongPinv(Doubling):
    def pinv(self, y, theta=EMPTY):
        return y


class WrongSolve(Doubling):
    def solve_normal(self, b, lam, theta=EMPTY):
        return b / 4.0


class SharedSolve(Doubling):
    """Takes the first sample's lam for all."""

    def solve_normal(self, b, lam, theta=EMPTY):
        return b / (4.0 + (lam[0] if isinstance(lam, torch.Tensor) else lam))


class HiddenDraw(Doubling):
    def forward(self, x, theta=EMPTY):
        return x * (torch.rand_like(x) > 0.5)


class Affine(Doubling):
    def forward(self, x, theta=EMPTY):
        return 2.0 * x + 1.0


class DropsBatch(Doubling):
    def forward(self, x, theta=EMPTY):
        return x.sum(0)


class BatchNorm(Operator):
    """Each output depends on the whole batch."""

    in_shape = out_shape = SHAPE

    def forward(self, x, theta=EMPTY):
        return x / x.norm()


class WrongShape(Doubling):
    out_shape = (2, 5, 5)


class InPlace(Doubling):
    def forward(self, x, theta=EMPTY):
        return x.detach().mul_(2.0) + 0 * x if not x.requires_grad else 2.0 * x


class SinglePrecision(Doubling):
    def forward(self, x, theta=EMPTY):
        return (2.0 * x).float()


class WrongVjp(Operator):
    in_shape = out_shape = SHAPE

    def forward(self, x, theta=EMPTY):
        return x**2

    def vjp(self, x, v, theta=EMPTY):
        return x * v


class AnyShape(Doubling):
    def __call__(self, x, theta=EMPTY):
        return self.forward(x)


class Unpicklable(Doubling):
    def __init__(self):
        self.function = lambda x: x


class WrongSVD(Denoising):
    """V is not orthogonal, U undoes it."""

    def V(self, c):
        return super().V(c) * 2.0

    def Ut(self, y):
        return super().Ut(y) * 0.5


class NoisyNullSpace(SVDOperator):
    """Keeps the first half; U^T says something where s = 0."""

    in_shape = out_shape = (4,)

    def spectrum(self, like):
        return torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=like.dtype)

    def V(self, c):
        return c

    Vt = Ut = V

    def U(self, c):
        return c * self.spectrum(c)


@pytest.mark.parametrize(
    ("build", "finding"),
    [
        (WrongAdjoint, "<A x, y> = <x, A^T y>"),
        (WrongPinv, "A A^+ A = A"),
        (WrongSolve, "(A^T A + lam I) solve_normal(b) = b, one lam"),
        (SharedSolve, "(A^T A + lam I) solve_normal(b) = b, lam per sample"),
        (HiddenDraw, "deterministic"),
        (HiddenDraw, "global generator untouched"),
        (Affine, "linear"),
        (DropsBatch, "output shape"),
        (BatchNorm, "samples independent of their batch"),
        (WrongShape, "output shape"),
        (InPlace, "leaves its input alone"),
        (SinglePrecision, "output precision"),
        (WrongVjp, "vjp against finite differences"),
        (AnyShape, "refuses another shape"),
        (Unpicklable, "pickles"),
        (lambda: WrongSVD(SHAPE), "V V^T = I"),
        (NoisyNullSpace, "U^T y = 0 where s = 0"),
    ],
)
def test_broken_operator_is_found_out(build, finding):
    report = check_operator(build())
    assert finding in [check.name for check in report.failures]
    assert not report.passed
    with pytest.raises(ConformanceError) as caught:
        report.raise_if_failed()
    assert finding in str(caught.value)


def test_right_operators_pass_and_print_as_a_list():
    report = check_operator(Doubling())
    report.raise_if_failed()
    assert report.passed
    assert not report.failures
    lines = str(report).splitlines()
    assert len(lines) == len(report.checks) + len(report.notes) + 1
    assert all(line.startswith(("ok", "note")) for line in lines[1:])
    assert "derive from Operator" not in str(report)


def test_operator_that_raises_is_reported():
    class Raises(Doubling):
        def forward(self, x, theta=EMPTY):
            raise RuntimeError("no light")

    report = check_operator(Raises())
    assert [check.name for check in report.failures] == ["runs"]
    assert "RuntimeError: no light" in str(report)


def test_skipped_checks_do_not_count():
    assert check_operator(Unpicklable(), skip=["pickles"]).passed


def test_parameters_per_sample_are_taken_with_their_rows():
    kernels = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    operator = Blur(SHAPE, kernels / kernels.sum((-2, -1), keepdim=True), "circular")
    check_operator(operator, batch=4).raise_if_failed()


def test_iterative_solves_pass_in_single_precision():
    check_operator(GaussianBlur(SHAPE, 0.5, "zero"), dtype=torch.float32).raise_if_failed()


# recorded randomness


def test_replay_hands_out_draws_in_order_shape_and_precision():
    draws = [torch.arange(6.0), torch.ones(2, 3), torch.zeros(2)]
    rng = ReplayRng(draws)
    first = rng.normal(torch.empty(2, 3, dtype=torch.float64))
    assert first.dtype == torch.float64
    assert torch.equal(first, torch.arange(6.0, dtype=torch.float64).reshape(2, 3))
    second = rng.uniform(torch.empty(2, 3))
    assert torch.equal(second, torch.ones(2, 3))
    second.zero_()
    assert torch.equal(draws[1], torch.ones(2, 3))
    assert torch.equal(rng.poisson(torch.ones(2, 1)), torch.zeros(2, 1))
    assert rng.left == 0


def test_replay_refuses_another_size_and_the_end():
    rng = ReplayRng([torch.zeros(4)])
    with pytest.raises(InputError, match=r"draw 0 has shape \[4\].*\[1, 3\]"):
        rng.normal(torch.empty(1, 3))
    rng.normal(torch.empty(2, 2))
    with pytest.raises(InputError, match="all 1 recorded draws are used up"):
        rng.normal(torch.empty(2, 2))


def test_replay_resumes_from_its_state():
    rng = ReplayRng(torch.arange(3.0)[:, None, None])
    rng.normal(torch.empty(1, 1))
    state = rng.state()
    assert state.dtype == Rng(0).state().dtype
    second = rng.normal(torch.empty(1, 1))
    again = ReplayRng(rng.draws)
    again.restore(state)
    assert torch.equal(again.normal(torch.empty(1, 1)), second)
