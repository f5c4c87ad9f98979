"""fast <= balanced <= best: more network calls never make a restoration worse, whatever the noise, grey or colour."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import invsolve as iv
from invsolve.bench.data import packaged
from invsolve.io import read_image
from invsolve.restoration.settings import QUALITIES

LEAST = 0.1
"""dB by which the mean of a better quality may be below that of the one before."""


def crop(index: int, side: int) -> Tensor:
    """A part of a photograph in the package, half as large: without noise of its own."""
    x = read_image(packaged()[index]).pixels[:, 64 : 64 + 2 * side, 64 : 64 + 2 * side]
    return (F.interpolate(x[None], scale_factor=0.5, mode="area")[0] * 255).round() / 255


def noisy(x: Tensor, sigma: float) -> Tensor:
    """As an 8 bit file holds it; equal channels get equal noise."""
    shape = (1, *x.shape[1:]) if bool((x == x[:1]).all()) else x.shape
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return ((x + sigma * noise).clamp(0, 1) * 255).round() / 255


def psnr(x: Tensor, truth: Tensor) -> float:
    return -10 * math.log10(float((x - truth).square().mean()))


def grey(x: Tensor) -> Tensor:
    return x.mean(0, keepdim=True)


KINDS = {"colour": lambda x: x, "grey": grey, "grey as RGB": lambda x: grey(x).expand(3, -1, -1)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sigma", [0.01, 0.03, 0.1, 0.2, 0.4])
def test_more_calls_never_denoise_worse(kind: str, sigma: float) -> None:
    """On the mean of two photographs: of a single small one another turn is worth up to 0.15 dB either way."""
    rows = []
    for index, side in ((2, 48), (3, 64)):
        truth = KINDS[kind](crop(index, side))
        y = noisy(truth, sigma)
        rows.append([psnr(iv.restore(y, "denoise", quality=quality).image.pixels, truth) for quality in QUALITIES])
        assert min(rows[-1]) > psnr(y, truth), (index, rows)
    fast, balanced, best = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    assert balanced > fast - LEAST, rows
    assert best > balanced - LEAST, rows


@pytest.mark.parametrize("sigma", [0.03, 0.1])
def test_grey_images_are_denoised_like_their_level_says(sigma: float) -> None:
    """The level read in the file is worth the level told, to 1 dB, in one channel and in three equal ones."""
    for index, side in ((2, 24), (3, 64)):
        truth = grey(crop(index, side))
        y = noisy(truth, sigma)
        told = psnr(iv.restore(y, "denoise", noise=sigma, quality="fast").image.pixels, truth)
        for image in (y, y.expand(3, -1, -1)):
            done = iv.restore(image, "denoise", quality="fast").image.pixels.mean(0, keepdim=True)
            assert psnr(done, truth) > told - 1, (index, len(image))
