"""Checks of terminal costs: `check_cost(my_cost).raise_if_failed()`, or `invsolve check my_module:MyCost`."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError
from invsolve.core.cost import Likelihood, TerminalCost
from invsolve.core.operator import EMPTY, Params
from invsolve.core.rng import Rng
from invsolve.testing import diagnoses
from invsolve.testing.densities import check_density, with_measurement
from invsolve.testing.report import Report

__all__ = ["check_cost"]

ROWS = "what differs from item to item must be named in `per_item`, so that `select` takes its rows"


def check_cost(
    cost: TerminalCost,
    *,
    in_shape: Sequence[int] | None = None,
    batch: int = 3,
    dtype: torch.dtype = torch.float64,
    theta: Params = EMPTY,
    seed: int = 0,
    tol: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
    skip: Collection[str] = (),
) -> Report:
    """Check, on random images, the properties that every solver relies on; each failure names the likely cause.

    All costs: one finite energy for each image, in the images' precision, the same for the same images; independence
    of the samples in a batch; `select` with any rows; the gradient against finite differences; other precisions and
    devices by `to`; sums and multiples. Likelihoods also: draws of `simulate` that depend only on the noise of their
    own row, and, for a measurement of one entry (with the identity as operator), a density that integrates or sums to
    1 and that the draws follow (Kolmogorov-Smirnov test, false alarms below 1e-6).

    Args:
        cost: the cost to check; a likelihood without a measurement is given one that it simulates.
        in_shape: the shape of one image; needed if the cost has no operator.
        batch: images in a batch if the cost accepts any number, at least 2.
        dtype: precision; finite differences are computed in float64 only.
        theta: the unknown parameters that the cost needs, [batch, ...] each.
        seed: the seed of the random images.
        tol: relative error allowed; 1e-9 in float64 and 1e-4 in float32 if not given.
        low: the lowest pixel value; pixels are drawn uniformly from [`low`, `high`].
        high: the highest pixel value.
        skip: names of checks to leave out of the report.

    Returns:
        A report: `report.passed`, `report.failures`, `report.raise_if_failed()`, and `print(report)` for a list.
    """
    probe = _Probe(
        cost, in_shape, batch, dtype, theta, seed, (low, high), tol or (1e-9 if dtype == torch.float64 else 1e-4)
    )
    report = probe.report
    if report.attempt("runs", probe.energies):
        report.attempt("samples independent of their batch", probe.rows)
        report.attempt("gradient against finite differences", probe.gradient)
        report.attempt("moves", probe.moves)
        report.attempt("adds and scales", probe.algebra)
        if isinstance(probe.cost, Likelihood):
            likelihood = probe.cost
            report.attempt("simulates", lambda: probe.draws(likelihood))
    return report.without(skip)


class _Probe:
    """A cost, a random batch, its energies, and the report."""

    def __init__(
        self,
        cost: TerminalCost,
        in_shape: Sequence[int] | None,
        batch: int,
        dtype: torch.dtype,
        theta: Params,
        seed: int,
        span: tuple[float, float],
        tol: float,
    ) -> None:
        cost.check()
        if in_shape is None and not isinstance(cost, Likelihood):
            raise InputError(f"{type(cost).__name__} has no operator: give in_shape, the shape of one image")
        shape = tuple(in_shape) if in_shape is not None else cost.operator.in_shape  # pyright: ignore
        self.dtype, self.tol, self.seed = dtype, tol, seed
        self.n = cost.items or max(batch, 2)
        self.theta = {name: value.to(dtype) for name, value in theta.items()}
        generator = torch.Generator().manual_seed(seed)
        uniform = torch.rand(2, self.n, *shape, generator=generator, dtype=torch.float64)
        self.x, truth = (span[0] + (span[1] - span[0]) * uniform).to(dtype).unbind()
        self.direction = torch.randn(self.x.shape, generator=generator, dtype=torch.float64).to(dtype)
        self.report, self.y = Report(type(cost).__name__), torch.empty(0)
        self.cost = cost.to("cpu", dtype)
        if isinstance(self.cost, Likelihood) and self.cost.y is None:
            self.cost = with_measurement(self.cost, self.cost.simulate(truth, Rng(seed), self.theta))

    def at(self, x: Tensor) -> Tensor:
        """Compute the energies of images, without a gradient."""
        with torch.no_grad():
            return self.cost(x, self.theta)

    def gap(self, got: Tensor, want: Tensor) -> float:
        """Return the largest difference of energies, relative to their size."""
        return float((got.double() - want.double()).abs().max() / want.double().abs().max().clamp_min(1.0))

    def energies(self) -> bool:
        """Check for one finite number per image, the same at a second call, and no side effects."""
        report, before = self.report, self.x.clone()
        self.y = self.at(self.x)
        told = f"shape [{self.n}] expected, got {list(self.y.shape)}: sum over every dimension but the first"
        if not report.fact("one energy for each image", tuple(self.y.shape) == (self.n,), told):
            return False
        report.fact("output precision", self.y.dtype == self.dtype, diagnoses.of_precision(self.dtype, self.y.dtype))
        report.fact("finite energies", bool(torch.isfinite(self.y).all()), "NaN or infinity for images in [0, 1]")
        with torch.random.fork_rng(devices=[]):
            state = torch.Generator().manual_seed(0).get_state()
            torch.set_rng_state(state)
            again = self.at(self.x)
            quiet = torch.equal(state, torch.get_rng_state())
        report.fact("leaves its input alone", torch.equal(before, self.x), "x was changed in place: clone it first")
        report.fact(
            "deterministic", torch.equal(again, self.y), "a random draw is hidden in it: draw once, when it is made"
        )
        return report.fact("global generator untouched", quiet, "it draws from torch's global generator, or seeds it")

    def rows(self) -> None:
        """Check that images alone, and rows selected in any order, have the same energies as in the batch."""
        for name, chosen in (
            ("samples independent of their batch", [[row] for row in range(self.n)]),
            ("select takes rows in any order", [list(range(self.n))[::-1]]),
            ("select repeats rows", [[row for row in range(self.n) for _ in range(2)]]),
        ):
            error = 0.0
            for some in chosen:
                pick = torch.tensor(some)
                theta = {key: value[pick] for key, value in self.theta.items()}
                part = self.cost.select(pick)
                if part.items not in (None, len(some)):
                    error = math.inf
                with torch.no_grad():
                    error = max(error, self.gap(part(self.x[pick], theta), self.y[pick]))
            self.report.error(name, error, self.tol, f"{ROWS}; or a sum, norm or mean runs over the batch")

    def gradient(self) -> None:
        """Compare <grad Phi, d> by autograd with central differences."""
        x = self.x.clone().requires_grad_()
        with torch.enable_grad():
            energy = self.cost(x, self.theta)
        if not self.report.fact(
            "differentiable", energy.requires_grad, "no gradient reaches the image: write it in torch"
        ):
            return
        (slope,) = torch.autograd.grad(energy.sum(), x)
        self.report.fact("finite gradient", bool(torch.isfinite(slope).all()), diagnoses.BEYOND)
        if self.dtype != torch.float64:
            return
        got, errors = (slope * self.direction).flatten(1).sum(1), []
        size = slope.flatten(1).norm(dim=1) * self.direction.flatten(1).norm(dim=1)
        for step in (1e-3, 1e-5, 1e-7):
            ahead, behind = self.at(self.x + step * self.direction), self.at(self.x - step * self.direction)
            rounding = 1e-15 * self.y.abs() / step
            wrong = (((ahead - behind) / (2 * step) - got).abs() - rounding).clamp_min(0)
            errors.append(float((wrong / (size + 1e-300)).max()))
        told = "the gradient is not the derivative: a detach, a rounding or an integer conversion"
        self.report.error("gradient against finite differences", min(errors), 1e-6, told)

    def moves(self) -> None:
        """Run in the other precision, and on a GPU if there is one."""
        other = torch.float32 if self.dtype == torch.float64 else torch.float64
        theta = {key: value.to(other) for key, value in self.theta.items()}
        with torch.no_grad():
            moved = self.cost.to("cpu", other)(self.x.to(other), theta)
        self.report.fact(f"follows `to` {other}", moved.dtype == other, diagnoses.of_precision(other, moved.dtype))
        self.report.error("the same in both precisions", self.gap(moved, self.y), 1e-3, diagnoses.PRECISIONS)
        if not torch.cuda.is_available():
            self.report.notes.append(diagnoses.NO_ACCELERATOR)
            return
        with torch.no_grad():
            far = self.cost.to("cuda", self.dtype)(
                self.x.cuda(), {key: value.cuda() for key, value in self.theta.items()}
            )
        self.report.fact("runs where `to` brings it", far.is_cuda, diagnoses.DEVICE)
        self.report.error("the same on the accelerator", self.gap(far.cpu(), self.y), max(self.tol, 1e-6))

    def algebra(self) -> None:
        """Check sums and multiples (also one factor per item), and the shape of noisy energies if it has them."""
        weights = torch.arange(1, self.n + 1, dtype=self.dtype)
        with torch.no_grad():
            total = (self.cost + self.cost * weights)(self.x, self.theta)
        self.report.error("adds and scales", self.gap(total, (1 + weights) * self.y), self.tol)
        try:
            with torch.no_grad():
                noisy = self.cost.noisy(self.x, 0.1)
        except CapabilityError:
            return
        self.report.fact("one energy for each noisy image", tuple(noisy.shape) == (self.n,), f"{list(noisy.shape)}")

    def draws(self, likelihood: Likelihood) -> None:
        """Check simulated measurements: their shape, that each row uses its own noise, and their distribution."""
        keys = [(item, 0) for item in range(self.n)]
        try:
            y = likelihood.simulate(self.x, Rng(self.seed, keys), self.theta)
        except NotImplementedError:
            self.report.notes.append("simulate is not implemented: the density was not checked")
            return
        shape = (self.n, *likelihood.operator.out_shape)
        if not self.report.fact("draws of the measurement's shape", tuple(y.shape) == shape, f"{list(y.shape)}"):
            return
        again = likelihood.simulate(self.x, Rng(self.seed, keys), self.theta)
        self.report.fact(
            "draws come from the rng alone", torch.equal(y, again), "use rng.normal, rng.uniform, rng.poisson"
        )
        pick = torch.tensor([self.n - 1])
        theta = {key: value[pick] for key, value in self.theta.items()}
        last = likelihood.select(pick).simulate(self.x[pick], Rng(self.seed, keys[-1:]), theta)
        error = float((last - y[pick]).abs().max() / y.abs().max().clamp_min(1e-12))
        self.report.error("a draw is its row's own", error, self.tol, ROWS)
        check_density(self.report, likelihood, self.theta, self.seed)
