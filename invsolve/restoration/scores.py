"""Scores of a restoration against the ground truth of a simulation."""

from __future__ import annotations

import math

from torch import Tensor

from invsolve.metrics import Case
from invsolve.metrics.fidelity import psnr, ssim

__all__ = ["score"]


def score(image: Tensor, truth: Tensor) -> dict[str, float | None]:
    """PSNR in dB and SSIM of images [C, H, W] clipped to [0, 1], as `invsolve.metrics` computes them.

    SSIM is None for images smaller than its window.
    """
    case = Case(image.clamp(0, 1), truth.clamp(0, 1))
    similarity = ssim()(case)
    return {"psnr": psnr()(case), "ssim": None if math.isnan(similarity) else similarity}
