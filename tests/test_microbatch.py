"""microbatch="auto": as many rows as fit, and the same samples."""

from __future__ import annotations

import pytest
import torch
import toy

import invsolve as iv
from invsolve.core import microbatch


@pytest.mark.parametrize(
    ("free", "taken", "expected"), [(1000, 100, 6), (1000, 200, 4), (1000, 5000, 1), (10**9, 1, 6)]
)
def test_rows_fit_into_four_fifths_of_the_free_memory(free, taken, expected):
    assert microbatch._fitting(free, taken, 6) == expected


def test_on_a_cpu_all_rows_run_together_and_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(microbatch, "_memory", lambda run, device: pytest.fail("measured"))
    assert microbatch.rows_that_fit(iv.Problem(toy.gaussian(), toy.likelihood(3)), toy.quick("dps"), 6) == 6


def test_samples_do_not_depend_on_the_rows_that_fit(monkeypatch):
    problem, solver = iv.Problem(toy.gaussian(), toy.likelihood(3)), toy.quick("dps")
    whole = iv.solve(problem, solver, samples=2, microbatch="auto")
    monkeypatch.setattr("invsolve.core.driver.rows_that_fit", lambda problem, solver, rows: 4)
    assert torch.allclose(whole.samples, iv.solve(problem, solver, samples=2, microbatch="auto").samples, atol=1e-12)


def test_a_checkpoint_wants_a_number(tmp_path):
    problem = iv.Problem(toy.gaussian(), toy.likelihood(3))
    with pytest.raises(iv.InputError, match="a checkpoint needs a fixed chunk size"):
        iv.solve(problem, toy.quick("dps"), microbatch="auto", checkpoint=tmp_path / "run.pt")
