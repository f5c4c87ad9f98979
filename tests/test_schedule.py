"""Schedules: their ends, their grids, the papers' index lists."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import invsolve as iv
from invsolve.core.schedule import path
from invsolve.priors.loading.beta_tables import betas

ALL = [iv.DDPMSchedule(), iv.VPSchedule(), iv.VESchedule(), iv.CosineSchedule(), iv.FlowSchedule()]
LISTS = json.loads((Path(__file__).parent / "data" / "timesteps.json").read_text())


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_schedules_start_clean_and_grow_noisier(schedule):
    assert schedule(0.0) == pytest.approx((1.0, 0.0), abs=1e-12)
    ratios = [sigma / max(alpha, 1e-300) for alpha, sigma in (schedule(k / 100) for k in range(101))]
    assert all(b > a for a, b in zip(ratios, ratios[1:], strict=False))


@pytest.mark.parametrize("schedule", [ALL[0], ALL[1], ALL[3]], ids=repr)
def test_variance_preserving_schedules_preserve_variance(schedule):
    for k in range(101):
        alpha, sigma = schedule(k / 100)
        assert alpha**2 + sigma**2 == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_grids_fall_to_zero(schedule):
    for n in (1, 8, 50):
        grid = schedule.grid(n, 0.8)
        assert len(grid) == n + 1
        assert grid[-1] == 0.0
        assert all(s < t for t, s in zip(grid, grid[1:], strict=False))


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_time_of_inverts_the_noise_to_signal_ratio(schedule):
    for ratio in (0.01, 0.3, 2.0):
        alpha, sigma = schedule(schedule.time_of(ratio))
        assert sigma / alpha == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_a_log_grid_falls_by_equal_factors_and_ends_at_zero(schedule):
    *times, last = schedule.log_grid(5, 2.0, 0.02)
    ratios = [sigma / alpha for alpha, sigma in map(schedule, times)]
    assert ratios == pytest.approx([2.0 * 0.01 ** (k / 4) for k in range(5)], rel=1e-6)
    assert last == 0.0
    assert len(path(schedule, 5, times=(*times, last))) == 5
    with pytest.raises(iv.InputError, match="must fall"):
        schedule.log_grid(5, 0.02, 2.0)


@pytest.mark.parametrize("key", LISTS)
def test_ddpm_grid_is_the_published_index_list(key):
    _, end, n = (int(v) for v in key.split(","))
    schedule = iv.DDPMSchedule()
    grid = schedule.grid(n, end / 1000)
    assert [schedule.index(t) for t in grid[:-1]] == LISTS[key][::-1]


def test_ddpm_table_is_the_product_of_one_minus_beta():
    schedule = iv.DDPMSchedule([0.1, 0.2, 0.5])
    for t, bar in ((1 / 3, 0.9), (2 / 3, 0.72), (1.0, 0.36)):
        assert schedule(t)[0] ** 2 == pytest.approx(bar, rel=1e-12)
    assert schedule(0.5)[0] ** 2 == pytest.approx(math.sqrt(0.9 * 0.72), rel=1e-12)


def test_a_path_is_computed_once():
    schedule = iv.VPSchedule()
    assert path(schedule, 10, 1.0) is path(schedule, 10, 1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: iv.DDPMSchedule([0.0, 0.1]),
        lambda: iv.DDPMSchedule([]),
        lambda: iv.VPSchedule(0.0),
        lambda: iv.VESchedule(1.0, 2.0),
        lambda: iv.CosineSchedule(-1.0),
        lambda: iv.DDPMSchedule().grid(0),
        lambda: iv.DDPMSchedule().grid(1001),
        lambda: iv.FlowSchedule().grid(3, 1.5),
        lambda: iv.FlowSchedule()(1.2),
        lambda: path(iv.FlowSchedule(), 1, 1.0, (0.5, 0.6, 0.0)),
    ],
)
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(iv.InputError):
        make()


@pytest.mark.parametrize(
    "schedule",
    [*ALL, iv.VPSchedule(2.0, 2.0), iv.CosineSchedule(0.0), iv.DDPMSchedule([0.1, 0.5, 1.0])],
    ids=repr,
)
def test_the_time_of_a_ratio_is_that_of_the_bisection(schedule):
    for ratio in (1e-3, 0.02, 0.3, 1.0, 7.0, 60.0, 500.0):
        want = iv.Schedule.time_of(schedule, ratio)
        assert schedule.time_of(ratio) == pytest.approx(want, rel=1e-9, abs=1e-12)
    assert schedule.time_of(1e9) == pytest.approx(1.0, abs=1e-6)
    for t in (0.002, 0.1, 0.3333, 0.8):
        alpha, sigma = schedule(t)
        assert schedule.time_of(sigma / alpha) == pytest.approx(t, abs=1e-9)


@pytest.mark.parametrize("schedule", [iv.FlowSchedule(), iv.CosineSchedule()])
@pytest.mark.parametrize("parametrization", ["edm", "eps"])
def test_networks_that_divide_by_alpha_enter_pure_noise_late(schedule, parametrization):
    class Zero(torch.nn.Module):
        def forward(self, x, c):
            return 0.1 * x

    prior = iv.priors.NetworkPrior(Zero(), parametrization, schedule, shape=(1, 4, 4), conditioning="sigma")
    for solver in (iv.solvers.DDIM(n_steps=4), iv.solvers.DAPS(n_steps=3, n_langevin=2, spread=None)):
        cost = iv.costs.GaussianLikelihood(iv.operators.Denoising((1, 4, 4)), torch.full((1, 1, 4, 4), 0.5), 0.1)
        result = iv.solve(iv.Problem(prior, cost if solver.needs.cost else None), solver)
        assert "ended at step" not in result.status[0][0]


def test_the_cosine_table_is_exact_in_float64():
    table = betas("cosine", 4)
    bars = [math.cos((i / 4 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(5)]
    assert table.dtype == torch.float64
    assert table.tolist() == [min(1 - b / a, 0.999) for a, b in zip(bars, bars[1:], strict=False)]
