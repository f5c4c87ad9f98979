"""Solvers against plain programs of their published boxes: whole runs, the same noise, float64, per sample.

The recorded runs of the authors' code fix single settings; these programs share nothing with the solvers and vary the
operator, the weights, the starts, the noise, the grid and the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

import golden
import pytest
import torch
from golden import SHAPE, draw, load
from torch import Tensor

from invsolve import LinearOperator, Problem, Solver, costs, operators, solvers

BARS = load("problem")["alphas_cumprod_f64"].double()
BETAS = load("problem")["betas_f64"].double()


class Case(NamedTuple):
    """An operator in [-1, 1] units with its pseudo-inverse, and ours in [0, 1] units."""

    h: Callable[[Tensor], Tensor]
    plus: Callable[[Tensor], Tensor]
    ours: Callable[[], operators.Operator]


def rows() -> Tensor:
    return load("problem")["bicubic4_rowmatrix_16"].double()


CASES = {
    "bicubic": Case(
        lambda x: rows() @ x @ rows().T,
        lambda y: torch.linalg.pinv(rows()) @ y @ torch.linalg.pinv(rows()).T,
        golden.bicubic,
    ),
    "mask": Case(
        lambda x: load("problem")["mask_in2"].double()[:, None] * x,
        lambda y: load("problem")["mask_in2"].double()[:, None] * y,
        lambda: golden.masked("mask_in2"),
    ),
    "curve": Case(
        lambda x: 2 * torch.tanh(x + 1) - 1,
        lambda y: y,
        lambda: operators.as_operator(lambda u: torch.tanh(2 * u), in_shape=SHAPE),
    ),
}


def bar(t: int) -> Tensor:
    return BARS[t] if t >= 0 else torch.tensor(1.0).double()


def network(variance: bool = False) -> Callable[[Tensor, int], Tensor]:
    module = golden.ConvNetwork(variance).requires_grad_(False)
    return lambda x, t: module(x, torch.full((len(x),), t))


def noise(n: int) -> Iterator[Tensor]:
    return (draw(k, (n, *SHAPE)) for k in count())


def steps(end: int, n: int) -> list[tuple[int, int]]:
    ts = list(range(0, end, end // n))
    return list(zip(ts[::-1], [*ts[-2::-1], -1], strict=True))


def coefficients(t: int, s: int, eta: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    a, b = bar(t), bar(s)
    c1 = eta * ((1 - a / b) * (1 - b) / (1 - a)).sqrt()
    return a, b, c1, (1 - b - c1**2).clamp_min(0).sqrt()


def measured(case: Case, n: int) -> Tensor:
    clean = torch.cat([load("problem")["x0"].double()] * n)[:n]
    y = case.h(clean)
    return y + 0.01 * draw(31, tuple(y.shape))


def ours(case: Case, y: Tensor, solver: Solver, variance: bool = False) -> Tensor:
    operator, n = case.ours(), len(y)
    unit = golden.unit(y, operator) if isinstance(operator, LinearOperator) else (y + 1) / 2
    problem = Problem(golden.prior(variance), costs.GaussianLikelihood(operator, unit, 0.005))
    rng = golden.replay([draw(k % 32, (n, *SHAPE)) for k in range(64)])
    state = solver.init(problem, n, rng)
    with torch.no_grad():
        for _ in range(solver.steps(problem)):
            state, _ = solver.step(problem, state, rng)
    return state.x


def ndtm(case: Case, y: Tensor, end: int, n: int, o: dict) -> Tensor:
    eps, z, path = network(), noise(len(y)), steps(end, n)
    first = bar(path[0][0])
    x = next(z)
    x = first.sqrt() * case.plus(y) + (1 - first).sqrt() * x if o["start"] == "guided" else x
    u, gamma = torch.zeros_like(x), o["gamma"]
    for i, (t, s) in enumerate(path):
        a, b, c1, c2 = coefficients(t, s, o["eta"])
        w_score, beta = (c2 - (b * (1 - a) / a).sqrt()) ** 2, BETAS[t]
        score = {"zero": 0.0, "ones": 1.0, "ddim": w_score, "ddpm": beta**2 / ((1 - beta) * (1 - a)), "exact": w_score}
        control = {
            "zero": 0.0,
            "ones": gamma**2,
            "ddim": gamma**2 * a / b,
            "ddpm": gamma**2 / (1 - beta),
            "exact": b / a,
        }
        names = o["weights"] if isinstance(o["weights"], tuple) else (o["weights"], o["weights"])
        w_s, w_c = score[names[0]], control[names[1]]
        if "random" in o["control_start"] and (i == 0 or o["control_start"] == "random"):
            u = next(z)
        u = (torch.zeros_like(x) if o["control_start"] == "zero" else u).clone().requires_grad_()
        adam = torch.optim.Adam([u], lr=0.01 * (1 - i / len(path) if o["lr_decay"] == "linear" else 1))
        free = eps(x, t)
        for _ in range(o["n_inner"]):
            c = x + gamma * u
            e = eps(c, t)
            p = ((c - (1 - a).sqrt() * e) / a.sqrt()).clamp(-1, 1)
            j = w_s * (free - e).square().sum() + w_c * (c - x).square().sum()
            j = j + o["weight"] * (y - case.h(p)).square().sum()
            adam.zero_grad()
            j.backward()
            adam.step()
        u = u.detach()
        e = eps(x + gamma * u, t)
        p = ((x + gamma * u - (1 - a).sqrt() * e) / a.sqrt()).clamp(-1, 1)
        x = b.sqrt() * p + c1 * next(z) + c2 * e
    return x


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("weights", ["zero", "ones", "ddim", "ddpm", "exact", ("ddim", "zero"), ("zero", "ddpm")])
@pytest.mark.parametrize(
    ("start", "control_start"),
    [("guided", "zero"), ("random", "causal"), ("random", "random"), ("guided", "causal-random")],
)
def test_ndtm(name, weights, start, control_start):
    guided = start == "guided"
    options = {
        "weights": weights, "start": start, "control_start": control_start, "gamma": 4.0 if guided else 1.5,
        "eta": 0.7 if guided else 1.0, "weight": 50.0 if guided else 2.0, "n_inner": 3 if guided else 1,
        "lr_decay": "linear" if guided else "constant",
    }  # fmt: skip
    end, n = (600, 8) if guided else (1000, 7)
    y = measured(CASES[name], 2)
    solver = solvers.NDTM(n_steps=n, t_start=end / 1000, lr=0.01, **options)
    golden.close(ours(CASES[name], y, solver), ndtm(CASES[name], y, end, n, options), 1e-9)


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("length", ["residual", "signal", "plain"])
@pytest.mark.parametrize(("zeta", "eta", "end"), [(1.0, 0.5, 1000), (0.3, 0.0, 400)])
def test_dps_ddim_form(name, length, zeta, eta, end):
    case, y, eps, z = CASES[name], measured(CASES[name], 2), network(), noise(2)
    path = steps(end, 9)
    first = bar(path[0][0])
    x = first.sqrt() * case.plus(y) + (1 - first).sqrt() * next(z)
    for t, s in path:
        a, b, c1, c2 = coefficients(t, s, eta)
        x = x.detach().requires_grad_()
        e = eps(x, t)
        p = (x - (1 - a).sqrt() * e) / a.sqrt()
        squares = (y - case.h(p)).square().flatten(1).sum(1)
        (g,) = torch.autograd.grad(squares.sum(), x)
        by_residual = zeta / squares.sqrt()[:, None, None, None]
        weight = {"residual": by_residual, "signal": zeta * (a * b).sqrt(), "plain": zeta}[length]
        x = b.sqrt() * p + c1 * (next(z) if eta > 0 else 0) + c2 * e - weight * g
    solver = solvers.DPS(form="ddim", n_steps=9, zeta=zeta, eta=eta, t_start=end / 1000, length=length)
    golden.close(ours(case, y, solver), x.detach(), 1e-9)


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize(("zeta", "eta"), [(0.3, 0.0), (1.0, 0.7)])
def test_dps_clamped_ddim_form(name, zeta, eta):
    case, y, eps, z = CASES[name], measured(CASES[name], 2), network(), noise(2)
    ts = [round(i * 999 / 9) for i in range(10)]
    x = next(z)
    for t, s in zip(ts[::-1], [*ts[-2::-1], -1], strict=True):
        a, b = bar(t), bar(s)
        sigma = eta * ((1 - b) / (1 - a)).sqrt() * (1 - a / b).sqrt()
        x = x.detach().requires_grad_()
        p = ((x - (1 - a).sqrt() * eps(x, t)) / a.sqrt()).clamp(-1, 1)
        e = ((1 / a).sqrt() * x - p) / (1 / a - 1).sqrt()
        (g,) = torch.autograd.grad((y - case.h(p)).square().flatten(1).sum(1).sqrt().sum(), x)
        fresh = sigma * next(z) if eta > 0 and s >= 0 else 0.0
        x = b.sqrt() * p + (1 - b - sigma**2).clamp_min(0).sqrt() * e + fresh - zeta * g
    times = (*((t + 1) / 1000 for t in reversed(ts)), 0.0)
    solver = solvers.DPS(form="ddim-clamped", zeta=zeta, eta=eta, times=times)
    golden.close(ours(case, y, solver), x.detach(), 1e-9)


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("variance", ["auto", "small", "large"])
def test_dps_ancestral_form(name, variance):
    case, y, z, out = CASES[name], measured(CASES[name], 2), noise(2), network(variance=True)
    ts = [round(i * 999 / 9) for i in range(10)]
    x = next(z)
    for t, s in zip(ts[::-1], [*ts[-2::-1], -1], strict=True):
        a, b = bar(t), bar(s)
        beta = 1 - a / b
        x = x.detach().requires_grad_()
        e, v = out(x, t).chunk(2, 1)
        p = ((x - (1 - a).sqrt() * e) / a.sqrt()).clamp(-1, 1)
        (g,) = torch.autograd.grad((y - case.h(p)).square().flatten(1).sum(1).sqrt().sum(), x)
        mean = beta * b.sqrt() / (1 - a) * p + (1 - b) * (1 - beta).sqrt() / (1 - a) * x
        least = (beta * (1 - b) / (1 - a)).clamp_min(1e-30).log()
        learned = (v + 1) / 2 * beta.log() + (1 - v) / 2 * least
        log_variance = {"auto": learned, "small": least, "large": beta.log()}[variance]
        x = mean + (0.5 * log_variance).exp() * next(z) * (s >= 0) - 0.3 * g
    times = (*((t + 1) / 1000 for t in reversed(ts)), 0.0)
    solver = solvers.DPS(form="ancestral", zeta=0.3, times=times, variance=variance)
    golden.close(ours(case, y, solver, variance=True), x.detach(), 1e-9)


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("weighting", ["linear", "sqrt", "square", "two-thirds", "log", "clipped", "constant"])
@pytest.mark.parametrize("data_weight", [1.0, 0.3])
def test_reddiff(name, weighting, data_weight):
    case, y, eps, z = CASES[name], measured(CASES[name], 2), network(), noise(2)
    mu = case.plus(y).clone().requires_grad_()
    adam, p = torch.optim.Adam([mu], lr=0.3, betas=(0.9, 0.99)), mu
    for t, _ in steps(1000, 10):
        a, n0, n1 = bar(t), next(z), next(z)
        p = mu + 0.01 * n0
        e = eps(a.sqrt() * p + (1 - a).sqrt() * n1, t).detach()
        r = ((1 - a) / a).sqrt()
        w = {"sqrt": r.sqrt(), "square": r**2, "two-thirds": r ** (2 / 3), "log": (1 + r).log()}
        w |= {"clipped": r.clamp(max=1), "constant": 1.0}
        pull = 0.4 * w.get(weighting, r) * ((e - n1) * p).flatten(1).mean(1)
        adam.zero_grad()
        (pull + 0.5 * data_weight * (y - case.h(p)).square().flatten(1).mean(1)).sum().backward()
        adam.step()
    solver = solvers.REDdiff(n_steps=10, lam=0.4, lr=0.3, sigma_x0=0.01, weighting=weighting, data_weight=data_weight)
    golden.close(ours(case, y, solver), p.detach(), 1e-9)


@pytest.mark.parametrize("name", ["bicubic", "mask"])
@pytest.mark.parametrize("form", ["noiseless", "noiseless-ddim", "noiseless-mcg"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("replace", "weight"), [(False, 1.0), (True, 0.6)])
def test_noiseless_pigdm(name, form, eta, replace, weight):
    case, y, eps, z = CASES[name], measured(CASES[name], 2), network(), noise(2)
    path = steps(600, 8)
    first = bar(path[0][0])
    x = first.sqrt() * case.plus(y) + (1 - first).sqrt() * next(z)
    for t, s in path:
        a, b, c1, c2 = coefficients(t, s, eta)
        x = x.detach().requires_grad_()
        e = eps(x, t)
        p = (x - (1 - a).sqrt() * e) / a.sqrt()
        (g,) = torch.autograd.grad((case.plus(y - case.h(p)).detach() * p).sum(), x)
        signal = {"noiseless": (a * b).sqrt(), "noiseless-mcg": a.sqrt()}
        signal["noiseless-ddim"] = (b.sqrt() - c2 * (a / (1 - a)).sqrt()) * a.sqrt()
        if replace:
            p, g = p - case.plus(case.h(p)) + case.plus(y), g - case.plus(case.h(g))
            e = (x - a.sqrt() * p) / (1 - a).sqrt() if form == "noiseless-ddim" else e
        x = b.sqrt() * p + c1 * (next(z) if eta > 0 else 0) + c2 * e + weight * signal[form] * g
    solver = solvers.PiGDM(8, eta, form, weight=weight, replace=replace, t_start=0.6)
    golden.close(ours(case, y, solver), x.detach(), 1e-9)
