"""The search for a blur: what one step loses another keeps, and the choice is that of the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_blind_deblur import blurred, cartoon, correlation
from test_blind_evidence import COFFEE, framed, point
from torch import Tensor

import invsolve as iv
from invsolve import priors
from invsolve.io import read_image
from invsolve.operators import camera_shake_kernel, gaussian_kernel
from invsolve.tasks.blind import evidence, search
from invsolve.tasks.blind.edges import estimate_kernel
from invsolve.tasks.blind.joint import refine_kernel
from invsolve.tasks.blind.search import Candidate, cost, find_kernel, rival


def thin_trace(side: int, seed: int) -> Tensor:
    """A twice integrated random walk in the pixels that it meets."""
    path = np.random.default_rng(seed).standard_normal((400, 2)).cumsum(0).cumsum(0)
    path = (path - path.min(0)) / np.ptp(path, 0).max() * (side - 1) + 0.5
    kernel = np.zeros((side, side))
    np.add.at(kernel, tuple(path.astype(int).T), 1 / 400)
    return torch.from_numpy(kernel)


def test_a_kernel_that_image_and_prior_would_shrink_is_kept(monkeypatch: pytest.MonkeyPatch):
    """At next to no noise: by the noise that is assumed at least, and by the choice."""
    image, kernel = read_image(COFFEE).pixels[:, 60:188, 60:188], thin_trace(9, 3)
    y = (blurred(image, kernel, 0.002) * 255).round() / 255
    first, natural = estimate_kernel(y, 15), priors.load("natural", dtype=torch.bfloat16)
    assert correlation(first, kernel) > 0.97
    assert correlation(refine_kernel(y, first, 0.002, natural), kernel) > 0.95
    shrunk = refine_kernel(y, first, 0.002, natural, 0.0)
    assert correlation(shrunk, kernel) < 0.9
    monkeypatch.setattr(search, "refine_kernel", lambda *a: shrunk)
    found = find_kernel(y, 15, 0.002, natural)
    assert correlation(found[0].kernel, kernel) > 0.97
    assert {candidate.step for candidate in found} == {"edges", "evidence", "prior"}
    assert found[0].cost + 0.02 < next(c.cost for c in found if c.kernel is shrunk)


def test_the_choice_is_that_of_the_truth_where_the_evidence_differs():
    """The more another kernel is mixed into the true one the less likely it is."""
    image, kernel = read_image(COFFEE).pixels[:, 40:200, 40:200], framed(thin_trace(11, 5), 21)
    y = blurred(image, kernel[2:-2, 2:-2], 0.004)
    for other in (point(21), kernel.flip(0)):
        costs = [cost(y, (1 - share) * kernel + share * other, 0.004) for share in (0.0, 0.1, 0.25)]
        assert costs[0] + 0.02 < costs[1] < costs[2]
    wide = gaussian_kernel(3.0, 10)
    assert cost(y, 0.5 * kernel + 0.5 * wide, 0.004) + 0.02 < cost(y, wide, 0.004)


def test_kernels_that_look_like_none_cost_more(monkeypatch: pytest.MonkeyPatch):
    y, kernel = cartoon(60), framed(camera_shake_kernel(8, 0.3, iv.Rng(1)), 15)
    generator = torch.Generator().manual_seed(0)
    speckled = kernel + 0.1 * kernel.max() * torch.rand(15, 15, generator=generator, dtype=torch.float64)
    monkeypatch.setattr(search, "free_energy", lambda *a: 0.0)
    assert cost(y, speckled / speckled.sum(), 0.01) > cost(y, kernel, 0.01) + 0.01


def test_a_small_frame_is_looked_at_too_where_the_frame_is_large(monkeypatch: pytest.MonkeyPatch):
    sides: list[int] = []

    def noted(image: Tensor, size: int) -> Tensor:
        sides.append(size)
        return gaussian_kernel(1.0, size // 2)

    monkeypatch.setattr(search, "estimate_kernel", noted)
    monkeypatch.setattr(evidence, "TURNS", 2)
    found = find_kernel(cartoon(100), 25, 0.01, None)
    assert sides == [25, 17]
    assert all(candidate.kernel.shape == (25, 25) for candidate in found)
    assert [candidate.cost for candidate in found] == sorted(candidate.cost for candidate in found)
    find_kernel(cartoon(100), 15, 0.01, None)
    assert sides == [25, 17, 15]


def test_the_rival_is_the_first_edges_or_another_step():
    kernel = torch.ones(3, 3) / 9
    steps = ((33, "prior"), (17, "edges"), (33, "edges"), (17, "evidence"))
    a, b, c, d = (Candidate(kernel, start, step, 0.0) for start, step in steps)
    assert rival([a, b, c, d]) is c
    assert rival([b, c, a]) is c
    assert rival([c, b, d, a]) is d
    assert rival([c]) is c
