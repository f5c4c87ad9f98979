"""The quality of estimated blur kernels, and the loss of the network that corrects them.

    loss = 1.5 sum |k - K| + 8 tanh(excess / 8)

K is the true kernel, shifted to be most similar to the estimate k, since a blurred image does not determine the shift.
The excess is the error of a Wiener estimate with k relative to that with K, in dB; the gain is the error of the blurred
image relative to the estimate with k, in dB:

    W = conj(k) / (|k|^2 + 2.25 sigma^2 / S),  error(k) = sum |1 - W K|^2 S + |W|^2 sigma^2,  S = c f^-2.4

A distance between kernels alone does not show which of their frequencies matter.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from invsolve.tasks.blind.spectrum import of_kernel, of_photographs
from invsolve.train.blurred_files import Examples

__all__ = ["Score", "kernel_loss", "score"]

_GRID = 96
_FINER = 8
_DISTANCE, _MOST = 1.5, 8.0
_INFLATION = 1.5**2


class Score(NamedTuple):
    """Scores of n kernels, see the module docstring.

    Attributes:
        distance: sum |k - K| [n].
        correlation: correlation with the true kernels [n].
        excess: excess error in dB [n].
        gain: gain in dB [n].
    """

    distance: Tensor
    correlation: Tensor
    excess: Tensor
    gain: Tensor


def score(kernels: Tensor, data: Examples) -> Score:
    """Compare kernels [n, s, s] with the true kernels of examples."""
    grid = (_GRID, _GRID)
    own, true = of_kernel(kernels, grid), of_kernel(data.true, grid)
    moved = _moved(true, own.detach())
    found, wanted = (torch.fft.irfft2(spectrum, grid) for spectrum in (own, moved))
    distance = (found - wanted).abs().sum((-2, -1))
    correlation = (found * wanted).sum((-2, -1)) / (found.norm(dim=(-2, -1)) * wanted.norm(dim=(-2, -1)))
    images = of_photographs(grid, data.scale[:, None, None], own.real)
    noise = data.sigma.square()[:, None, None]
    filters = (spectrum.conj() / (spectrum.abs().square() + _INFLATION * noise / images) for spectrum in (own, moved))
    restored, best = (_error(filtered, moved, noise, images) for filtered in filters)
    unmoved = torch.ones_like(own)
    blurred = _error(unmoved, _moved(true, unmoved), noise, images)
    return Score(distance, correlation, 10 * (restored / best).log10(), 10 * (blurred / restored).log10())


def kernel_loss(kernels: Tensor, batch: Examples) -> Tensor:
    """Compute the loss of corrected kernels [n, s, s]."""
    found = score(kernels, batch)
    return (_DISTANCE * found.distance + _MOST * torch.tanh(found.excess / _MOST)).mean()


def _error(filtered: Tensor, true: Tensor, noise: Tensor, images: Tensor) -> Tensor:
    return ((1 - filtered * true).abs().square() * images + filtered.abs().square() * noise).sum((-2, -1))


def _moved(true: Tensor, own: Tensor) -> Tensor:
    """Shift the true kernels (as spectra) to where they correlate most with the estimated ones."""
    shift = _best_shift(own * true.conj())
    return true * torch.polar(torch.ones_like(shift), shift)


def _best_shift(products: Tensor) -> Tensor:
    """Return the phases [n, H, W // 2 + 1] of the shift with the highest correlation, in steps of 1/8 pixel."""
    n = len(products)
    coarse = torch.fft.irfft2(products, (_GRID, _GRID)).flatten(1).argmax(1)
    whole = torch.stack([coarse // _GRID, coarse % _GRID], 1).to(products.real.dtype)
    down = torch.fft.fftfreq(_GRID)[:, None].to(whole)
    across = torch.fft.rfftfreq(_GRID)[None].to(whole)
    fractions = torch.arange(-_FINER, _FINER + 1).to(whole) / _FINER
    places = whole[:, None, :] + fractions[None, :, None]  # [n, 17, 2]
    rows = torch.polar(torch.ones(1).to(whole), 2 * math.pi * places[..., 0, None] * down[:, 0])  # [n, 17, H]
    columns = torch.polar(torch.ones(1).to(whole), 2 * math.pi * places[..., 1, None] * across[0])  # [n, 17, W']
    twice = torch.full((across.shape[1],), 2.0).to(whole)
    twice[0] = twice[-1] = 1.0  # all other frequencies also represent their conjugates
    fine = (rows @ (products * twice) @ columns.transpose(1, 2)).real.flatten(1).argmax(1)
    at = torch.arange(n)
    best = torch.stack([places[at, fine // len(fractions), 0], places[at, fine % len(fractions), 1]], 1)
    return -2 * math.pi * (best[:, 0, None, None] * down + best[:, 1, None, None] * across)
