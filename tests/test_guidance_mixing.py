"""Score mixing: the potential, its minimisers, where the flow lands and how fast."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import invsolve as iv
from invsolve import priors, solvers
from invsolve.diagnostics.mixing import (
    clarke_residual,
    dirac_score,
    local_minimisers,
    mixed_score,
    mixing_report,
    potential,
    potential_grad,
    rate_exponent,
    reverse_flow,
)
from invsolve.priors.guidance.combinations import mixed

ZERO = torch.zeros(1, dtype=torch.float64)


def tensor(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def laws(seed: int, d: int = 2, j: int = 3, k: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points uniform in [-1, 1]^d with random weights."""
    g = torch.Generator().manual_seed(seed)
    points = [2 * torch.rand(n, d, generator=g, dtype=torch.float64) - 1 for n in (j, k)]
    weights = [(0.2 + torch.rand(n, generator=g, dtype=torch.float64)).log_softmax(0) for n in (j, k)]
    return points[0], weights[0], points[1], weights[1]


def starts(n: int, d: int = 2, seed: int = 5) -> Tensor:
    return 2.5 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0, 2.0])
def test_one_point_each_follows_the_closed_form(lam: float) -> None:
    x, _ = reverse_flow(tensor([3.0]), tensor([1.0]), ZERO, tensor([-1.0]), ZERO, lam, t1=1e-4)
    limit = 2 * lam - 1
    assert x.item() == pytest.approx(limit + math.sqrt(1e-4 / 4) * (3 - limit), abs=1e-8)


@pytest.mark.parametrize(("weights", "ratio"), [((0.5, 0.5), 0.84730), ((0.2, 0.8), -0.5390)])
def test_at_a_kink_in_one_dimension_the_rate_is_linear(weights: tuple[float, float], ratio: float) -> None:
    law = tensor([0.2]), ZERO, tensor([-1.0], [1.0]), torch.tensor(weights, dtype=torch.float64).log()
    _, history = reverse_flow(tensor([1.5]), *law, 2.0, t1=1e-5, method="bdf")
    t, x = history[-1]
    assert x.item() / t == pytest.approx(ratio, abs=2e-3)
    found = local_minimisers(law[0], law[2], 2.0)
    assert found.kind.tolist() == [2]
    assert found.points.item() == pytest.approx(0.0, abs=1e-12)


def test_at_a_kink_in_two_dimensions_each_direction_has_its_rate() -> None:
    law = tensor([0.2, 0.3]), ZERO, tensor([-1.0, 0.0], [1.0, 0.0]), torch.tensor([0.5, 0.5]).double().log()
    _, history = reverse_flow(tensor([1.5, 2.0]), *law, 2.0, t1=1e-5, method="bdf")
    t, x = history[-1]
    assert local_minimisers(law[0], law[2], 2.0).points[0].tolist() == pytest.approx([0.0, 0.6])
    assert x[0, 0].item() / t == pytest.approx(0.8473, abs=2e-3)
    assert (x[0, 1].item() - 0.6) / math.sqrt(t) == pytest.approx(0.7, abs=2e-3)


@pytest.mark.parametrize("lam", [0.5, 2.0])
def test_the_scaled_score_tends_to_the_gradient_of_the_potential(lam: float) -> None:
    a, logp, b, logq = laws(1)
    x = 4 * torch.rand(1000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 2
    errors = []
    for t in (1e-1, 1e-3, 1e-5):
        errors.append((-4 * t * mixed_score(x, a, logp, b, logq, lam, t) - potential_grad(x, a, b, lam)).norm(dim=1))
    assert errors[0].mean() > 10 * errors[1].mean() > 100 * errors[2].mean()
    assert errors[1].median() < 1e-6
    y = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(potential(y, a, b, lam).sum(), y)
    assert torch.allclose(slope, potential_grad(x, a, b, lam))


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_flows_land_on_the_minimisers_at_rate_one_half(lam: float) -> None:
    landed, slopes = [], []
    for seed in (0, 1):
        law = laws(seed)
        x, history = reverse_flow(starts(16), *law, lam, h=0.05)
        found = local_minimisers(law[0], law[2], lam)
        report = mixing_report(history, found)
        landed.append(report["landed_fraction"])
        nearest = found.points[torch.cdist(x, found.points).argmin(1)]
        slopes.append(rate_exponent(history, nearest))
        assert clarke_residual(found.points, law[0], law[2], lam).max() < 1e-8
    assert sum(landed) / 2 >= 0.9  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert torch.cat(slopes).median().item() == pytest.approx(0.5, abs=0.005)


def test_above_one_minimisers_may_be_kinks_and_are_critical() -> None:
    kinds = set()
    for seed in range(6):
        a, _, b, _ = laws(seed)
        found = local_minimisers(a, b, 2.0)
        kinds |= set(found.kind.tolist())
        assert clarke_residual(found.points, a, b, 2.0).max() < 1e-3
        assert (clarke_residual(found.points + 0.1, a, b, 2.0) > 0.05).all()
        for point in found.points:
            around = point + 1e-3 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            assert (potential(around, a, b, 2.0) >= potential(point[None], a, b, 2.0) - 1e-9).all()
    assert {1, 2} <= kinds


@pytest.mark.parametrize("lam", [1.0, 3.0])
def test_nested_supports_keep_their_limit_points(lam: float) -> None:
    for seed in (0, 1):
        _, _, b, logq = laws(seed, k=6)
        a, logp = b[:2], torch.tensor([0.5, 0.5], dtype=torch.float64).log()
        x, _ = reverse_flow(starts(16), a, logp, b, logq, lam, t1=1e-6, h=0.02)
        assert torch.cdist(x, a).amin(1).max() < 1e-2
        found = local_minimisers(a, b, lam)
        assert torch.allclose(found.points, a, atol=1e-8)


def test_the_library_s_sampler_with_mixed_priors_is_the_same_flow() -> None:
    a, logp, b, logq = laws(2)
    ve = iv.VESchedule()
    one, two = (priors.MixturePrior(p, torch.zeros(len(p)), w.exp(), ve) for p, w in ((a, logp), (b, logq)))
    x, t = starts(8), 0.6
    sigma = ve(t)[1]
    ours = mixed(one, two, 1.7).score(x, t)
    assert torch.allclose(ours, mixed_score(x, a, logp, b, logq, 1.7, sigma**2 / 2), rtol=1e-6)
    out = iv.solve(iv.Problem(mixed(one, two, 0.5)), solvers.DDIM(n_steps=60), samples=64).samples[0]
    near = torch.cdist(out, local_minimisers(a, b, 0.5).points).amin(1) < 2e-2
    assert near.double().mean() > 0.9


def test_a_negative_lambda_and_a_short_history_are_refused() -> None:
    a, logp, b, logq = laws(0)
    with pytest.raises(iv.InputError, match="at least 0"):
        mixed_score(starts(2), a, logp, b, logq, -0.1, 1.0)
    with pytest.raises(iv.InputError, match="at least three"):
        rate_exponent([(1.0, a)], a)
    assert torch.allclose(dirac_score(a, a[:1], ZERO, 0.5), a[0] - a)
