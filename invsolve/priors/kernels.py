"""A learned prior of blur kernels: a denoiser D(k; level) = E[k | k + level n]."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import InputError, check_positive
from invsolve.priors.networks.unet import Denoiser, load_denoiser, self_ensemble

__all__ = ["WEIGHTS", "KernelDenoiser", "packaged_kernels"]

WEIGHTS = Path(str(files("invsolve.priors"))) / "weights" / "kernels.safetensors"

MARGIN = 4
"""Pixels of nothing around a kernel, which the network is used to from training."""


class KernelDenoiser:
    """Takes white noise out of blur kernels; kernels of shakes, motion, defocus and Gaussians are what it knows.

    Args:
        network: of one channel, trained by `invsolve train kernels` on kernels whose largest entry is near 1.
        turned: average over the eight flips and quarter turns.
    """

    def __init__(self, network: Denoiser, *, turned: bool = True) -> None:
        if network.config.image_channels != 1:
            raise InputError(f"a denoiser of kernels has one channel, this one {network.config.image_channels}")
        self.network, self.multiple = network, network.config.multiple
        self._denoise = self_ensemble(network) if turned else network

    @property
    def quick(self) -> KernelDenoiser:
        """The same at an eighth of the time, without turns."""
        return KernelDenoiser(self.network, turned=False)

    @torch.no_grad()
    def __call__(self, kernel: Tensor, level: float) -> Tensor:
        """The kernel [s, s] without noise of standard deviation `level`: at least 0, sums to one.

        Args:
            kernel: [s, s] with a largest entry above 0.
            level: in units of the largest entry, from 0.004 to 100.

        Raises:
            InputError: a kernel that is not square or has no entry above 0, or a level of 0 or less.
        """
        check_positive(level, "the noise level of a kernel")
        if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or float(kernel.max()) <= 0:
            raise InputError(f"a kernel [s, s] with entries above 0 is needed, got {list(kernel.shape)}")
        side, top = kernel.shape[0], kernel.max()
        after = -(side + 2 * MARGIN) % self.multiple + MARGIN
        framed = F.pad(kernel.float() / top, (MARGIN, after, MARGIN, after))[None, None]
        clean = self._denoise(framed, torch.tensor(float(level)))[0, 0]
        clean = clean[MARGIN : MARGIN + side, MARGIN : MARGIN + side].clamp_min(0).to(kernel)
        total = clean.sum()
        return clean / total if float(total) > 0 else kernel / kernel.sum()


@lru_cache(maxsize=1)
def packaged_kernels() -> KernelDenoiser:
    """The prior that travels in the package; its card lies beside the weights (`kernels.md`)."""
    return KernelDenoiser(load_denoiser(WEIGHTS))
