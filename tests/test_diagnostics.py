"""Every calibration statistic on laws that are known: exact samples pass, stated defects are caught.

Exact samples are asked to lie within 5 standard deviations of what is right (a false alarm in about 1e-6 of the
comparisons, where normal), each defect to lie more than 5 outside: with the sample sizes used, the power is as high.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import toy
from torch import Tensor

import invsolve as iv
from invsolve import costs, operators, priors
from invsolve.diagnostics import (
    Band,
    Coordinates,
    PosteriorReference,
    c2st,
    calibrate,
    calibrate_truth,
    calibration_figure,
    resolution,
    sliced_wasserstein,
)

S = 400
G = torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def gaussian() -> PosteriorReference:
    prior = toy.gaussian()
    return PosteriorReference.build(prior.posterior(toy.likelihood(2)), prior_cov=prior.covs[0], draws=1600)


@pytest.fixture(scope="module")
def bands(gaussian: PosteriorReference) -> dict[str, Band]:
    return resolution(gaussian, S, replicates=8)


@pytest.fixture(scope="module")
def mixture() -> PosteriorReference:
    means = torch.tensor([[[[0.4, 0.1]]], [[[0.5, 0.9]]]], dtype=torch.float64)
    prior = priors.MixturePrior(means, torch.tensor([0.01, 0.02]), torch.tensor([0.3, 0.7]))
    operator = operators.Inpainting((1, 1, 2), torch.tensor([[1.0, 0.0]]))
    y = torch.tensor([[[[0.45, 0.0]]]], dtype=torch.float64)
    return PosteriorReference.build(prior.posterior(costs.GaussianLikelihood(operator, y, 0.05)), draws=3000)


def exact(reference: PosteriorReference, seed: int = 5, n: int = S) -> Tensor:
    return reference.posterior.sample(n, iv.Rng(seed))


def outside(value: float, band: Band) -> float:
    """By how many standard deviations a value is off."""
    return abs(value - band.mean) / max(band.std, 1e-9)


def test_coordinates_make_a_gaussian_posterior_standard_normal(gaussian):
    identity = torch.eye(48, dtype=torch.float64).expand(2, 1, -1, -1)
    torch.testing.assert_close(gaussian.covs, identity, rtol=0, atol=1e-8)
    torch.testing.assert_close(gaussian.means, torch.zeros_like(gaussian.means), rtol=0, atol=1e-10)
    assert gaussian.coordinates.observed.sum(1).tolist() == [12, 12]  # one for each entry of y


def test_coordinates_of_the_operator_split_range_and_null_space():
    operator = operators.SuperResolution(toy.SHAPE, 2)
    cov = toy.covariance(48)
    coordinates = Coordinates.of_operator(operator, cov)
    assert coordinates.observed.sum().item() == 12
    hidden = coordinates.matrix[0][~coordinates.observed[0]]
    assert operator(hidden.view(-1, *toy.SHAPE)).abs().max() < 1e-9 * hidden.abs().max()
    spread = (coordinates.matrix[0] @ cov @ coordinates.matrix[0].T).diagonal()
    torch.testing.assert_close(spread, torch.ones_like(spread))


def test_exact_samples_pass(gaussian, bands):
    report = calibrate(exact(gaussian), gaussian).numbers()
    for name, band in bands.items():
        assert outside(report[name], band) < 8, name  # its std comes from 8 replicates, so 8 instead of 5
    assert bands["z_observed"].mean == pytest.approx(1, abs=0.02)
    assert bands["coverage_90"].mean == pytest.approx(0.9, abs=0.005)
    assert bands["c2st"].mean == pytest.approx(0.5, abs=0.03)
    assert bands["z_observed"].std < 3 / math.sqrt(2 * 2 * 12 * S)  # the formula in `resolution`, within a factor of 3


def test_a_spread_of_twelve_tenths_is_caught(gaussian, bands):
    mean = gaussian.posterior.mean[:, None]
    wide = calibrate(mean + 1.2 * (exact(gaussian) - mean), gaussian).numbers()
    for name in (
        "z_observed",
        "z_unobserved",
        "coverage_50",
        "coverage_90",
        "coverage_95",
        "c2st",
        "sliced_wasserstein",
    ):
        assert outside(wide[name], bands[name]) > 5, name
    assert wide["z_observed"] == pytest.approx(1.2, abs=0.04)
    expected = 2 * torch.special.ndtr(torch.tensor(1.2 * 1.6449)).item() - 1
    assert wide["coverage_90"] == pytest.approx(expected, abs=0.01)
    assert wide["c2st"] > 0.7


def test_a_shift_of_the_mean_is_caught(gaussian, bands):
    """Half a posterior standard deviation in every direction: its size is the gap, weighted by variance."""
    spread = gaussian.posterior.cov.diagonal(dim1=1, dim2=2).sqrt().view(2, 1, *toy.SHAPE)
    shifted = calibrate(exact(gaussian) + 0.5 * spread, gaussian).numbers()
    assert shifted["mmse_gap"] == pytest.approx(0.25, abs=0.02)
    for name in ("mmse_gap", "c2st", "sliced_wasserstein"):
        assert outside(shifted[name], bands[name]) > 5, name
    assert outside(shifted["z_observed"], bands["z_observed"]) < 8


def test_a_point_estimate_has_no_spread(gaussian):
    report = calibrate(gaussian.posterior.mean[:, None].expand(-1, S, -1, -1, -1), gaussian)
    assert report.z_observed == 0
    assert report.coverage == (0, 0, 0)
    assert abs(report.mmse_gap) < 1e-12
    assert report.c2st > 0.95


def test_dependence_between_directions_is_caught_by_the_classifier_alone(gaussian):
    """Two observed directions with the right spread each, but equal to one another."""
    z = gaussian.draw(S, iv.Rng(7))[0]
    z[:, 7 * 47 // 7] = z[:, 0]
    honest = c2st(gaussian.draw(S, iv.Rng(8))[0], gaussian.draws[0], gaussian, 0)
    assert c2st(z, gaussian.draws[0], gaussian, 0) > honest + 0.1


def test_wrong_mode_weights_are_caught(mixture):
    weights = mixture.posterior.weights[0]
    right = calibrate(exact(mixture, n=1000), mixture)
    assert right.mode_error < 5 * math.sqrt(0.25 / 1000)
    assert 0.45 < right.c2st < 0.55
    draws = exact(mixture, n=4000)[:, :, ...]
    second = draws[0, :, 0, 0, 1] > 0.5
    kept = torch.cat([draws[0, second][:500], draws[0, ~second][:500]])[None]
    wrong = calibrate(kept, mixture)
    assert wrong.mode_weights[1] == pytest.approx(0.5, abs=0.02)
    assert wrong.mode_error == pytest.approx(abs(weights[1].item() - 0.5), abs=0.02)
    assert wrong.mode_error > 5 * math.sqrt(0.25 / 1000)
    assert wrong.c2st > 0.55


def test_coverage_of_a_mixture_uses_its_own_distribution(mixture):
    """A Gaussian with the mixture's mean and variance has the right z-spread, and is not the mixture."""
    cov, mean = mixture.posterior.cov[0], mixture.posterior.mean[0].flatten()
    factor = torch.linalg.cholesky(cov)
    noise = torch.randn(1, 2000, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    report = calibrate((mean + noise @ factor.T).view(1, 2000, 1, 1, 2), mixture)
    assert report.z_observed == pytest.approx(1, abs=0.05)
    assert abs(report.coverage[0] - 0.5) > 0.05
    assert report.c2st > 0.6


def test_samples_that_are_not_finite_are_counted_not_hidden(gaussian):
    draws = exact(gaussian)
    draws[0, :3] = math.nan
    report = calibrate(draws, gaussian)
    assert report.failed == 3
    assert report.z_observed == pytest.approx(1, abs=0.05)
    draws[0] = math.inf
    assert math.isnan(calibrate(draws, gaussian).c2st)
    with pytest.raises(iv.InputError, match="at least 20"):
        calibrate(draws[:, :5], gaussian)
    with pytest.raises(iv.InputError, match="2 items"):
        calibrate(draws[:1], gaussian)


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection():
    """|shift| / sqrt(k) in the root mean square over directions."""
    a = torch.randn(4000, 4, generator=G, dtype=torch.float64)
    shift = torch.tensor([3.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    assert sliced_wasserstein(a + shift, a, projections=500) == pytest.approx(1.5, abs=0.1)
    assert sliced_wasserstein(a, a) < 0.05


@pytest.fixture(scope="module")
def users() -> tuple[Tensor, Tensor, Tensor]:
    """Posterior samples [150, 30, 48] of a calibrated model, the truth, and the posterior's standard deviation."""
    factor = torch.linalg.cholesky(toy.covariance(48))
    mean = torch.randn(150, 1, 48, generator=G, dtype=torch.float64)
    draws = mean + torch.randn(150, 31, 48, generator=G, dtype=torch.float64) @ factor.T
    return draws[:, :30], draws[:, 30], toy.covariance(48).diagonal().sqrt()


def test_truth_among_its_own_kind_is_calibrated(users):
    samples, truth, spread = users
    report = calibrate_truth(samples, truth)
    for level, (value, error) in report.coverage.items():
        assert abs(value - level) < 5 * error, level
    assert abs(report.z_spread[0] - math.sqrt(29 / 27)) < 5 * report.z_spread[1]
    assert report.rank_p > 1e-6
    expected = spread.mean().item() / math.sqrt(math.pi)  # the CRPS of a Gaussian against itself: sigma / sqrt(pi)
    assert abs(report.crps[0] - expected) < 5 * report.crps[1]
    assert sum(report.rank_counts) == pytest.approx(150 * 48, abs=10)


def test_truth_outside_its_samples_is_caught(users):
    samples, truth, _ = users
    honest = calibrate_truth(samples, truth)
    mean = samples.mean(1, keepdim=True)
    narrow = calibrate_truth(mean + (samples - mean) / 1.2, truth)
    assert narrow.coverage[0.9][0] < 0.9 - 5 * narrow.coverage[0.9][1]
    assert narrow.z_spread[0] == pytest.approx(1.2 * honest.z_spread[0], rel=1e-6)
    assert narrow.rank_p < 1e-6
    assert narrow.rank_counts[0] > narrow.rank_counts[5] < narrow.rank_counts[-1]
    shifted = calibrate_truth(samples + 0.1, truth)
    assert shifted.rank_p < 1e-6
    assert shifted.rank_counts[0] > 1.5 * shifted.rank_counts[-1]
    assert shifted.crps[0] > honest.crps[0]
    assert shifted.energy_score[0] > honest.energy_score[0]


def test_truth_can_be_judged_where_pixels_are_missing(users):
    samples, truth, _ = users
    wrong = samples.clone()
    wrong[..., :24] = truth[:, None, :24]
    missing = torch.arange(48) >= 24
    report = calibrate_truth(wrong, truth, mask=missing)
    assert abs(report.coverage[0.9][0] - 0.9) < 5 * report.coverage[0.9][1]
    with pytest.raises(iv.ShapeError, match="truth"):
        calibrate_truth(samples, truth[:, :5])


def test_the_benchmark_measures_ours_and_a_peer(tmp_path, monkeypatch):
    """The smallest problem end to end: a calibrated solver passes, the prior alone and a wide peer do not."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from benchmarks.calibration.report import load, passes, write
    from benchmarks.calibration.run import EXACT, run

    wanted = [EXACT, "tmpd (fine)", "ddim (prior only)", "pnp-hqs (published)"]
    records = list(run([("pair-inpaint", row) for row in wanted], jobs=1, samples=400))
    assert [r["status"] for r in records] == ["ok"] * 4
    assert not any(passes(records[i]) for i in (0, 2, 3))
    assert records[1]["z_observed"] == pytest.approx(1, abs=5 / math.sqrt(2 * 800))
    assert records[1]["coverage_90"] == pytest.approx(0.9, abs=5 * 0.3 / math.sqrt(800))
    assert records[1]["c2st"] < 0.5 + 5 * 0.5 / math.sqrt(1600)
    assert records[2]["z_observed"] > 1.5
    assert records[3]["z_observed"] == 0
    assert records[1]["forwards"] == 250
    write(records, tmp_path)
    assert "tmpd (fine)" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "pair-inpaint.png").stat().st_size > 1000
    assert set(load(tmp_path / "results.json")) == {("pair-inpaint", row) for row in wanted}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # theirs, on import
def test_peers_run_on_our_problems_or_say_why_not(monkeypatch):
    pytest.importorskip("azula")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from invsolve.bench.peers import PEERS, Unable, denoiser_at, run_peer

    prior = toy.gaussian((-1.0, 1.0))
    x = torch.randn(3, *toy.SHAPE, generator=G, dtype=torch.float64)
    t = prior.schedule.time_of(0.3)
    torch.testing.assert_close(denoiser_at(prior)(x, 0.3), prior.denoise(prior.schedule(t)[0] * x, t))
    peers = {peer.name: peer for peer in PEERS}
    problem = iv.Problem(prior, toy.likelihood(1))
    result = run_peer(peers["azula MMPS"], problem, 4)
    assert tuple(result.samples.shape) == (1, 4, *toy.SHAPE)
    assert result.forwards == peers["azula MMPS"].steps
    blind = operators.Blur(toy.SHAPE, torch.full((3, 3), 1 / 9), padding="zero")
    y = torch.zeros(1, *toy.SHAPE, dtype=torch.float64)
    with pytest.raises(Unable, match="singular value"):
        run_peer(peers["deepinv DDRM"], iv.Problem(prior, costs.GaussianLikelihood(blind, y, 0.1)), 2)


def test_the_figure_is_drawn_with_values_out_of_range(tmp_path, gaussian, bands):
    rows = {"exact": calibrate(exact(gaussian), gaussian), "nothing": {"z_observed": 50.0, "c2st": math.nan}}
    calibration_figure(rows, tmp_path / "figure.png", title="toy", bands=bands)
    assert (tmp_path / "figure.png").stat().st_size > 1000
