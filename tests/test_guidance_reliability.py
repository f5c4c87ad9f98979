"""Classifier reliability, score discrepancy, control energy and entropy deficit against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from test_guidance_weights import law

import invsolve as iv
from invsolve import costs, priors, solvers
from invsolve.diagnostics.control import (
    ControlEnergy,
    collapse_figure,
    collapse_label,
    critical_scale,
    deficit_figure,
    entropy_deficit,
    mode_entropy,
)
from invsolve.diagnostics.discrepancy import (
    Trajectory,
    discrepancy_bound,
    discrepancy_figure,
    log_ratio_figure,
    noised,
    score_discrepancy,
)
from invsolve.diagnostics.reliability import classifier_report, oscillating, oscillation, reliability_figure
from invsolve.priors.labelled import LabelledMixture
from invsolve.solvers.steps.scales import AdaptiveScale, geoguide


def two(std: float = 1.0) -> LabelledMixture:
    means = torch.tensor([[-1.0], [1.0]])
    return LabelledMixture(means, torch.full((2,), std**2), torch.tensor([0, 1]), None, iv.VPSchedule())


def ring(std: float) -> LabelledMixture:
    x = torch.tensor([[-1.5, 0], [-1, 1], [-1, -1], [1.5, 0], [1, 1], [1, -1.0]])
    return LabelledMixture(x, torch.full((6,), std**2), torch.tensor([0, 0, 0, 1, 1, 1]), None, iv.VPSchedule())


def test_the_exact_posterior_has_no_error() -> None:
    for row in classifier_report(law().class_log_prob, law(), (0.1, 0.5), 500, iv.Rng(0)):
        assert abs(row.kl) < 1e-12
        assert row.guidance_mse < 1e-12
        assert row.dlsm_excess == pytest.approx(0.0, abs=1e-9)
        assert row.cross_entropy == pytest.approx(row.bayes, rel=1e-12)
        assert row.true_guidance > 0


def test_kl_and_guidance_error_of_an_oscillation_follow_the_closed_form() -> None:
    for size, frequency in ((1 / 4, 16), (1 / 16, 256)):
        found = oscillation(size, frequency)
        assert found.error / (2 * frequency**2 * found.kl) == pytest.approx(1.0, abs=0.01)
        assert found.kl == pytest.approx(size**2 * 0.1124 / 4, rel=0.01)
        assert found.agreement > 0.99
    rows = {(1 / 2, 4): (6.93e-3, 0.237, 0.789), (1 / 8, 64): (4.390e-4, 3.600, 12.40)}
    for key, values in rows.items():
        found = oscillation(*key)
        assert (found.kl, found.error, found.error_one) == pytest.approx(values, rel=3e-3)


@pytest.mark.parametrize(
    ("power", "slope"), [(0.0, 1.0), (-0.5, 0.5), (-1.0, 0.0), (-2.0, -1.0)], ids=["fixed", "root", "inverse", "square"]
)
def test_the_counterexample_has_its_slopes(power: float, slope: float) -> None:
    """log G against log eps^2 along w = A^power: the smoother the classifier, the more a small KL says."""
    sizes = (2.0**-3, 2.0**-5)
    found = [oscillation(a, 10.0 if power == 0 else a**power, n=400_000) for a in sizes]
    measured = math.log(found[1].error / found[0].error) / math.log(found[1].kl / found[0].kl)
    assert measured == pytest.approx(slope, abs=0.03)


def test_integration_by_parts_gives_the_error_and_its_certificate() -> None:
    for (size, frequency), g, bound in (((0.3, 1), 0.008346, 0.01016), ((0.05, 20), 0.056305, 0.056482)):
        found = oscillation(size, frequency, n=400_000)
        assert found.identity == pytest.approx(found.error, rel=1e-6)
        assert found.error == pytest.approx(g, rel=1e-3)
        assert found.certificate == pytest.approx(bound, rel=1e-3)
        assert found.certificate >= found.error


def test_the_report_finds_the_oscillation_by_sampling() -> None:
    mixture, t = two(), 0.5
    alpha, sigma = mixture.schedule(t)
    wave = oscillating(mixture, 0.25, 6.0, torch.ones(1))
    (row,) = classifier_report(wave, mixture, (t,), 20_000, iv.Rng(1, [(i, 0) for i in range(20_000)]))
    exact = oscillation(0.25, 6.0, mean=alpha, var=alpha**2 + sigma**2, n=400_000)
    assert row.kl == pytest.approx(exact.kl, rel=0.04)  # standard error of 20 000 draws below 0.01
    assert row.guidance_mse == pytest.approx(exact.error, rel=0.04)
    assert row.dlsm_excess == pytest.approx(exact.error, rel=0.2)
    assert row.by_class[1] == pytest.approx(exact.error_one, rel=0.05)


@pytest.mark.parametrize("std", [0.0, 0.2])
def test_score_discrepancies_stay_below_their_bounds_and_depend_on_the_states(std: float) -> None:
    mixture, times = ring(std), (0.05, 0.1, 0.3, 1.0)
    rng = iv.Rng(0)
    marginal = noised(mixture.sample(800, rng), mixture.schedule, times, rng)
    own = noised(mixture.given(label=0).sample(800, rng), mixture.schedule, times, rng)
    found = [score_discrepancy(mixture.given(label=0), mixture, s) for s in (marginal, own)]
    for row in (*found[0], *found[1]):
        bound = discrepancy_bound(mixture.schedule, row.t, 3.0, std)
        assert row.rms <= row.largest <= bound * (1 + 1e-6)
    assert found[0][0].rms > found[0][1].rms > found[0][2].rms > found[0][3].rms  # falls with t
    if std:
        assert found[1][0].rms < found[1][2].rms > found[1][3].rms  # hump-shaped
        assert found[1][2].cosine == pytest.approx(0.75, abs=0.06)
        assert found[0][2].rms == pytest.approx(1.41, rel=0.1)


def test_the_control_energy_of_a_fixed_length_is_its_closed_form(tmp_path) -> None:
    prior = priors.GaussianPrior(torch.zeros(2), 0.5, iv.VPSchedule())
    problem = iv.Problem(prior, costs.RewardCost(lambda x: -(x - 0.3).square().sum(1)))
    for rule, f in (
        (geoguide(7.0), lambda t: 1.0),
        (AdaptiveScale(7.0, "sin2", 0.0, 0.0), lambda t: math.sin(math.pi * t) ** 2),
    ):
        solver = solvers.Guidance(rule, at="xt", n_steps=20)
        steps = solver.path(problem)
        energy = ControlEnergy(steps, prior.schedule)
        iv.solve(problem, solver, samples=3, microbatch=2, callbacks=[energy])
        exact = sum(49 * f(s.t) ** 2 * (s.t - s.s) for s in steps)
        girsanov = sum(49 * f(s.t) ** 2 * (s.t - s.s) * 0.5 * (0.1 + 19.9 * s.t) for s in steps)
        assert energy.paper.tolist() == pytest.approx([exact] * 3, rel=1e-10)
        assert energy.girsanov.tolist() == pytest.approx([girsanov] * 3, rel=1e-10)
    energy.figure(tmp_path / "energy.png")
    assert (tmp_path / "energy.png").stat().st_size > 5000


def test_entropy_deficit_of_a_tilted_gaussian_is_its_closed_form() -> None:
    """N(0, v I) tilted by exp(-lam |x|^2) is N(0, v') with 1 / v' = 1 / v + 2 lam."""
    v, lam = 0.5, 3.0
    narrow = 1 / (1 / v + 2 * lam)
    p = priors.GaussianPrior(torch.zeros(2), v)
    found = entropy_deficit(p.log_prob, lambda x: -x.square().sum(1), lam, 10.05)
    entropy = math.log(2 * math.pi * math.e * narrow)
    assert found.entropy == pytest.approx(entropy, abs=1e-6)
    assert found.bridge == pytest.approx(-entropy + narrow + math.log(2 * math.pi), abs=1e-6)
    assert found.divergence == pytest.approx(narrow / v - 1 - math.log(narrow / v), abs=1e-6)
    assert found.reward == pytest.approx(1 / (1 + 2 * narrow), abs=1e-6)
    literal = entropy_deficit(p.log_prob, lambda x: -x.square().sum(1), lam, 10.05, variant="literal")
    assert found.deficit - literal.deficit == pytest.approx(10.05, abs=1e-3)
    with pytest.raises(iv.InputError, match="lam"):
        entropy_deficit(p.log_prob, p.log_prob, -1.0, 10.05)


def test_diversity_and_the_critical_scale() -> None:
    modes = torch.eye(4)
    assert mode_entropy(modes.repeat(5, 1), modes) == pytest.approx(1.0)
    assert mode_entropy(modes[:1].repeat(5, 1), modes) == 0.0
    assert mode_entropy(modes[:2], modes) == pytest.approx(0.5)
    assert [collapse_label(d) for d in (0.5, 0.2, 0.1)] == ["No", "Partial", "Yes"]
    assert critical_scale([1, 5, 20, 50], [0.89, 0.63, 0.21, 0.05]) == pytest.approx(21.9, abs=0.05)


def test_trajectories_and_figures(tmp_path) -> None:
    mixture = ring(0.2)
    solver = solvers.DDIM(n_steps=10)
    visited = Trajectory(solver.path(iv.Problem(mixture)), every=3)
    iv.solve(iv.Problem(mixture), solver, samples=4, microbatch=2, callbacks=[visited])
    assert [x.shape for x in visited.states.values()] == [(4, 2)] * 3
    rows = score_discrepancy(mixture.given(label=0), mixture, visited.states)
    assert rows[0].log_ratio_map.shape == (2,)
    bound = {row.t: discrepancy_bound(mixture.schedule, row.t, 3.0, 0.2) for row in rows}
    discrepancy_figure({"visited": rows}, tmp_path / "d.png", bound)
    with pytest.raises(iv.InputError, match="images"):
        log_ratio_figure(rows, tmp_path / "m.png")
    states = noised(law().sample(20, iv.Rng(0)), law().schedule, (0.2, 0.5), iv.Rng(1))
    log_ratio_figure(score_discrepancy(law().given(label=0), law(), states), tmp_path / "m.png")
    reliability_figure(
        {"exact": classifier_report(two().class_log_prob, two(), (0.2, 0.5), 50, iv.Rng(0))}, tmp_path / "r.png"
    )
    assert collapse_figure({"fixed": ([1, 5, 20, 50], [0.89, 0.63, 0.21, 0.05])}, tmp_path / "c.png") == {
        "fixed": pytest.approx(21.9, abs=0.05)
    }
    p = priors.GaussianPrior(torch.zeros(2), 0.5)
    lams = (0.0, 2.0)
    deficits = {v: entropy_deficit(p.log_prob, lambda x: -x.square().sum(1), v, 10.05, n=101) for v in lams}
    deficit_figure(deficits, tmp_path / "e.png")
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in "drmce")
