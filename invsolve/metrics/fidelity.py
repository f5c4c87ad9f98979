"""Metrics without learned weights: full-reference metrics, most of them from piq, and the measurement residual."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from invsolve.metrics.base import Case, ImageScore

__all__ = ["fsim", "gmsd", "haarpsi", "misfit", "ms_ssim", "psnr", "ssim"]

SSIM_SIDE, MS_SSIM_SIDE, HAARPSI_SIDE = 11, 161, 16


def psnr() -> ImageScore:
    """Peak signal-to-noise ratio -10 log10(mean (x - truth)^2) in dB; infinite for equal images."""

    def score(case: Case) -> float:
        error = float((case.image.double() - case.truth.double()).square().mean())
        return math.inf if error == 0 else -10 * math.log10(error)

    return score


def _by_piq(function: Callable[..., Any], side: int = 1, **options: Any) -> ImageScore:
    """Wrap a piq function; NaN below `side` pixels. It uses float32: float64 convolutions are 100 times slower."""

    def score(case: Case) -> float:
        if min(case.image.shape[-2:]) < side:
            return math.nan
        x, y = case.image.float()[None], case.truth.float()[None]
        return float(torch.as_tensor(function(x, y, data_range=1.0, reduction="none", **options)).mean())

    return score


def ssim() -> ImageScore:
    """SSIM (Wang et al. 2004), Gaussian window of 11 pixels and standard deviation 1.5, without downsampling."""
    import piq

    return _by_piq(piq.ssim, SSIM_SIDE, kernel_size=SSIM_SIDE, downsample=False)


def ms_ssim() -> ImageScore:
    """Multi-scale SSIM (Wang et al. 2003), five scales; NaN for images with a side below 161 pixels."""
    import piq

    return _by_piq(piq.multi_scale_ssim, MS_SSIM_SIDE)


def fsim() -> ImageScore:
    """FSIMc (Zhang et al. 2011): phase congruency and gradients, with colour."""
    import piq

    return _by_piq(piq.fsim)


def haarpsi() -> ImageScore:
    """HaarPSI (Reisenhofer et al. 2018, arXiv 1607.06140), with piq's downsampling by 2; NaN below 16 pixels."""
    import piq

    return _by_piq(piq.haarpsi, HAARPSI_SIDE)


def gmsd() -> ImageScore:
    """Gradient magnitude similarity deviation (Xue et al. 2014, arXiv 1308.3052); 0 means equal."""
    import piq

    return _by_piq(piq.gmsd)


def misfit() -> ImageScore:
    """rms of (y - A(x)) / sigma: 1 if the restoration explains the data as well as the truth; NaN without data."""

    def score(case: Case) -> float:
        if case.residual is None or not case.residual.numel():
            return math.nan
        return float(case.residual.abs().double().square().mean().sqrt())

    return score
