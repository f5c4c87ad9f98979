"""Calibration of the samples of one image against its truth: see `invsolve.diagnostics.calibrate_truth`."""

from __future__ import annotations

from torch import Tensor

from invsolve.metrics.base import SampleScore

__all__ = ["coverage90", "crps", "z_spread"]


def coverage90() -> SampleScore:
    """Share of an image's values inside the central 90 % interval of the samples; 0.9 is ideal."""

    def score(samples: Tensor, truth: Tensor) -> float:
        from invsolve.diagnostics import calibrate_truth

        return calibrate_truth(samples[None], truth[None], levels=(0.9,)).coverage[0.9][0]

    return score


def crps() -> SampleScore:
    """The fair continuous ranked probability score in image units; smallest for the exact posterior."""

    def score(samples: Tensor, truth: Tensor) -> float:
        from invsolve.diagnostics import calibrate_truth

        return calibrate_truth(samples[None], truth[None]).crps[0]

    return score


def z_spread() -> SampleScore:
    """rms of (truth - mean) / (std sqrt(1 + 1/S)), divided by its expectation sqrt((S - 1) / (S - 3)) for Gaussian
    samples of the exact posterior: 1 is ideal; above 1, the samples are too narrow."""

    def score(samples: Tensor, truth: Tensor) -> float:
        from invsolve.diagnostics import calibrate_truth

        n = len(samples)
        return calibrate_truth(samples[None], truth[None]).z_spread[0] / ((n - 1) / (n - 3)) ** 0.5

    return score
