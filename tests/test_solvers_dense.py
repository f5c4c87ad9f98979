"""Solvers of linear problems against plain programs with dense matrices: whole runs, the same noise, float64."""

from __future__ import annotations

from itertools import pairwise

import exact
import golden
import pytest
import torch
import toy
from torch import Tensor

import invsolve as iv
from invsolve import Problem, Solver, solvers


def dense_case() -> tuple[Problem, Tensor, Tensor, float]:
    """A Gaussian prior in [0, 1] units, made smaller by two: problem, matrix, y, sigma."""
    likelihood = toy.likelihood(2)
    return (
        Problem(toy.gaussian(), likelihood),
        exact.matrix(likelihood.operator),
        likelihood.measurement.flatten(1),
        0.05,
    )


def toy_noise(k: int) -> list[Tensor]:
    return [iv.Rng(100 + i).normal(torch.empty(2, *toy.SHAPE, dtype=torch.float64)) for i in range(k)]


def toy_run(problem: Problem, solver: Solver, draws: list[Tensor]) -> Tensor:
    return exact.run(problem, solver, 2, golden.replay(draws))[-1].x.flatten(1)


def test_diffpir():
    problem, matrix, y, sigma = dense_case()
    solver, draws = solvers.DiffPIR(n_steps=5, lam=0.7, zeta=0.4, spacing="own"), toy_noise(6)
    schedule, times = problem.prior.schedule, problem.prior.schedule.grid(5)
    alpha, level = schedule(times[0])
    x = alpha * y @ torch.linalg.pinv(matrix).T + level * draws[0].flatten(1)
    for k, (t, s) in enumerate(pairwise(times)):
        (a, b), (c, d) = schedule(t), schedule(s)
        x0 = problem.prior.denoise(x.view(-1, *toy.SHAPE), t).flatten(1)
        rho = 0.7 * sigma**2 * a**2 / b**2
        system = matrix.T @ matrix + rho * torch.eye(48).double()
        p = torch.linalg.solve(system, (y @ matrix + rho * x0).T).T
        e = (x - a * p) / b
        x = c * p + d * (0.6**0.5 * e + (0.4**0.5 * draws[k + 1].flatten(1) if d > 0 else 0.0))
    golden.close(toy_run(problem, solver, draws), x, 1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.85])
def test_ddnm(eta):
    problem, matrix, y, _ = dense_case()
    solver, draws, plus = solvers.DDNM(n_steps=5, eta=eta, noisy=False), toy_noise(6), torch.linalg.pinv(matrix)
    schedule, times = problem.prior.schedule, problem.prior.schedule.grid(5)
    x = draws[0].flatten(1)
    for k, (t, s) in enumerate(pairwise(times)):
        (a, b), (c, d) = schedule(t), schedule(s)
        x0 = problem.prior.denoise(x.view(-1, *toy.SHAPE), t).flatten(1)
        e = (x - a * x0) / b
        x0 = x0 + (y - x0 @ matrix.T) @ plus.T
        x = c * x0 + eta * d * draws[k + 1].flatten(1) + (1 - eta**2) ** 0.5 * d * e
    golden.close(toy_run(problem, solver, draws), x, 1e-9)


def test_noisy_pigdm():
    problem, matrix, y, sigma = dense_case()
    solver, draws = solvers.PiGDM(n_steps=5, eta=0.6, prior_std=0.3), toy_noise(6)
    schedule, times = problem.prior.schedule, problem.prior.schedule.grid(5)
    x = draws[0].flatten(1)
    for k, (t, s) in enumerate(pairwise(times)):
        (a, b), (c, d) = schedule(t), schedule(s)
        x = x.detach().requires_grad_()
        x0 = problem.prior.denoise(x.view(-1, *toy.SHAPE), t).flatten(1)
        r2 = 0.09 * b**2 / (0.09 * a**2 + b**2)
        inner = r2 * matrix @ matrix.T + sigma**2 * torch.eye(len(matrix)).double()
        v = torch.linalg.solve(inner, (y - x0 @ matrix.T).T).T @ matrix
        (pulled,) = torch.autograd.grad((v.detach() * x0).sum(), x)
        x0 = (x0 + b**2 / a * pulled).detach()
        c1 = 0.6 * d / b * (b**2 - (a / c) ** 2 * d**2) ** 0.5
        x = c * x0 + c1 * draws[k + 1].flatten(1) + (d**2 - c1**2) ** 0.5 * (x - a * x0) / b
    golden.close(toy_run(problem, solver, draws), x.detach(), 1e-9)


@pytest.mark.parametrize("start", ["smooth", "guided"])
def test_pnphqs(start):
    problem, matrix, y, sigma = dense_case()
    solver = solvers.PnPHQS(n_steps=4, lam=0.3, sigma_start=0.5, sigma_end=0.1, start=start)
    z, schedule = y @ torch.linalg.pinv(matrix).T, problem.prior.schedule
    z = problem.smooth_estimate.flatten(1) if start == "smooth" else z
    for k in range(4):
        level = 0.5 * (0.1 / 0.5) ** (k / 3)
        rho = 0.3 * sigma**2 / level**2
        x = torch.linalg.solve(matrix.T @ matrix + rho * torch.eye(48).double(), (y @ matrix + rho * z).T).T
        t = schedule.time_of(level)
        z = problem.prior.denoise(schedule(t)[0] * x.view(-1, *toy.SHAPE), t).flatten(1)
    golden.close(toy_run(problem, solver, []), z, 1e-9)
