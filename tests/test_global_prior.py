"""Solvers side by side on the packaged prior of digits: with the settings and the calls that the table states."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import invsolve as iv
from benchmarks.global_prior.__main__ import TABLE, contenders, ndtm, psnr, restored, rows, tasks
from invsolve import costs, priors, solvers


def test_settings_are_published_and_dps_has_four_times_the_calls():
    for name, task in tasks().items():
        found = contenders(task)
        published = solvers.NDTM.preset(f"{'ffhq256' if task.theta else 'imagenet256'}/{task.preset}")
        own = next(iter(found.values()))
        assert isinstance(own, solvers.NDTM)
        assert replace(own, n_steps=published.n_steps) == published
        cost = costs.GaussianLikelihood(task.operator, torch.zeros(1, *task.operator.out_shape), 0.1)
        problem = iv.Problem(priors.load("digits", schedule="linear"), cost, task.unknowns)
        calls = own.n_steps * (own.n_inner + 1)
        steps = found["dps"].steps(problem)
        assert 3.9 * calls <= steps <= TABLE, (name, calls, steps)
        linear = isinstance(task.operator, iv.LinearOperator) and task.theta is None
        assert ({"ddrm", "c-pigdm"} <= found.keys()) == linear


def test_the_table_has_means_gains_and_standard_errors_over_images():
    runs = {"ndtm": [3.0, 5.0], "dps": [2.0, 2.0]}
    results = {
        name: {"runs": [{"psnr": values, "residual": [1.0, 1.0], "forwards": 6.0, "backwards": 4.0}]}
        for name, values in runs.items()
    }
    assert rows("task", results) == [
        ["task", "ndtm", "4.00 ± 1.00", "+2.00 ± 1.00", "", "1.0", "6 + 4"],
        ["task", "dps", "2.00 ± 0.00", "", "", "1.0", "6 + 4"],
    ]


def test_psnr_is_of_clipped_images_and_at_the_best_shift_where_position_is_unknown():
    truth = torch.zeros(1, 1, 16, 16)
    truth[..., 6:10, 6:10] = 1.0
    moved = 2 * truth.roll((1, -2), (2, 3)) - 0.1
    wrong = (moved.clamp(0, 1) - truth).square().mean().item()
    assert psnr(moved, truth, anywhere=False).item() == pytest.approx(-10 * math.log10(wrong))
    assert psnr(moved, truth, anywhere=True).item() == math.inf


def test_ndtm_fills_in_digits_that_the_prior_never_saw():
    """Published settings, seeded. A mean over 8 digits of 19.2 dB; the known pixels alone give 12.9 dB."""
    from benchmarks.guidance.digits import load_digits

    task, truth = tasks()["inpainting, 30 % known"], load_digits("test").images[::63]
    done = restored(task, ndtm(task), truth, 0)
    known = psnr(task.operator(truth), truth, anywhere=False).mean().item()
    assert sum(done["psnr"]) / 8 > known + 4.0
