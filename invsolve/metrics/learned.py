"""Metrics based on learned features: LPIPS, DISTS and NIQE from other libraries, and one that works offline."""

from __future__ import annotations

import math

import torch

from invsolve.metrics.base import Case, ImageScore
from invsolve.metrics.weights import find_weights, offline_hub

__all__ = ["dists", "efflite0_distance", "lpips_alex", "lpips_vgg", "niqe"]

ALEXNET, VGG16 = "alexnet-owt-7be5be79.pth", "vgg16-397923af.pth"
NIQE_SIDE = 192


def _lpips(net: str, file: str) -> ImageScore:
    from torchmetrics.functional.image.lpips import _LPIPS

    with offline_hub(file):
        model = _LPIPS(net=net).eval()  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def score(case: Case) -> float:
        return float(model(2 * case.image[None].float() - 1, 2 * case.truth[None].float() - 1))

    return score


def lpips_alex() -> ImageScore:
    """LPIPS 0.1 with AlexNet (Zhang et al. 2018, arXiv 1801.03924)."""
    return _lpips("alex", ALEXNET)


def lpips_vgg() -> ImageScore:
    """LPIPS 0.1 with VGG-16, the version that most papers on inverse problems report."""
    return _lpips("vgg", VGG16)


def dists() -> ImageScore:
    """DISTS (Ding et al. 2020, arXiv 2004.07728)."""
    from piq import DISTS

    with offline_hub("dists_weights.pt", VGG16):
        model = DISTS(reduction="none").eval()

    @torch.no_grad()
    def score(case: Case) -> float:
        return float(model(case.image[None].float(), case.truth[None].float()))

    return score


def niqe() -> ImageScore:
    """NIQE (Mittal et al. 2013) of the restored image alone; NaN for images with a side below 192 pixels."""
    from deepinv.loss.metric import NIQE

    model = NIQE(weights_path=str(find_weights("niqe_weights.pt")), dtype=torch.float64)

    @torch.no_grad()
    def score(case: Case) -> float:
        if min(case.image.shape[-2:]) < NIQE_SIDE:
            return math.nan
        red, green, blue = 255 * case.image.double()
        grey = 0.299 * red + 0.587 * green + 0.114 * blue
        return float(model(grey[None, None]))

    return score


def efflite0_distance() -> ImageScore:
    """Mean squared distance of normalised features over five stages of EfficientNet-Lite0.

    sum_l mean_ij |f_l(x)_ij / |f_l(x)_ij| - f_l(truth)_ij / |f_l(truth)_ij||^2 / 5. This is the form of LPIPS (Zhang
    et al. 2018), but without weights learned from human judgements, so it is not LPIPS. 0 means equal, 2 unrelated.
    """
    from invsolve.metrics.features import EfficientNetLite0

    network = EfficientNetLite0()

    @torch.no_grad()
    def score(case: Case) -> float:
        stages = network.stages(torch.stack([case.image, case.truth]))
        units = [f / torch.linalg.vector_norm(f, dim=1, keepdim=True).clamp_min(1e-10) for f in stages]
        return float(torch.stack([(f[0] - f[1]).square().sum(0).mean() for f in units]).mean())

    return score
