"""Noise that a thread draws ahead is that of the streams, bit for bit, whatever a step draws and wherever it stops."""

from __future__ import annotations

import random

import pytest
import torch
import toy

import invsolve as iv
from invsolve.core import driver
from invsolve.core.rng import Ahead

KEYS = (("a", 0), ("a", 1), (7, 0))


def drawn(rng: iv.NoiseSource, what: str) -> torch.Tensor:
    """One draw of a kind and shape."""
    like = torch.empty(3, 2, 5, dtype=torch.float64)
    if what == "uniform":
        return rng.uniform(like)
    if what == "poisson":
        return rng.poisson(torch.full((3, 4), 6.0))
    return rng.normal(like if what == "normal" else torch.empty(3, 7))


def test_any_sequence_of_draws_is_that_of_the_streams():
    order = random.Random(0)
    kinds = order.choices(["normal", "normal", "normal", "other", "uniform", "poisson"], k=60)
    plain = iv.Rng(3, KEYS)
    with Ahead(iv.Rng(3, KEYS), pinned=False) as ahead:
        for kind in kinds:
            a, b = drawn(plain, kind), drawn(ahead, kind)
            assert a.dtype == b.dtype
            assert torch.equal(a, b), kind
            assert torch.equal(plain.state(), ahead.state())


def test_streams_go_on_from_a_state():
    with Ahead(iv.Rng(3, KEYS), pinned=False) as first, Ahead(iv.Rng(9, KEYS), pinned=False) as second:
        drawn(first, "normal")
        drawn(second, "other")
        second.restore(first.state())
        for kind in ("normal", "uniform", "normal", "normal"):
            assert torch.equal(drawn(first, kind), drawn(second, kind))


def test_streams_are_left_where_they_were_read():
    streams = iv.Rng(3, KEYS)
    with Ahead(streams, pinned=False) as ahead:
        drawn(ahead, "normal")
    plain = iv.Rng(3, KEYS)
    drawn(plain, "normal")
    assert torch.equal(streams.state(), plain.state())


@pytest.mark.parametrize("name", ["dps", "scg", "daps", "ndtm"])
def test_a_run_with_noise_drawn_ahead_is_the_run(name, monkeypatch, tmp_path):
    problem = iv.Problem(toy.gaussian(), toy.likelihood(2))
    solver = toy.quick(name)
    plain = iv.solve(problem, solver, samples=2, seed=5, microbatch=3)
    monkeypatch.setattr(driver, "_noise", lambda rng, device: Ahead(rng, pinned=False))

    def stop(progress: driver.Progress) -> None:
        if progress.chunk == 1 and progress.step == 2:
            raise KeyboardInterrupt

    file = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        iv.solve(
            problem, solver, samples=2, seed=5, microbatch=3, callbacks=[stop], checkpoint=file, checkpoint_seconds=0.0
        )
    resumed = iv.solve(problem, solver, samples=2, seed=5, microbatch=3, checkpoint=file, checkpoint_seconds=0.0)
    assert torch.equal(plain.samples, resumed.samples)


def test_on_a_cpu_nothing_is_drawn_ahead():
    rng = iv.Rng(0)
    assert driver._noise(rng, torch.device("cpu")) is rng
