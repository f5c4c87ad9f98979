"""Denoising quality on crops of photographs held out from training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.priors.networks.unet import Denoiser
from invsolve.train.data import PhotoSet
from invsolve.train.runtime import Runtime

__all__ = ["VALIDATION_SIGMAS", "Validation"]

VALIDATION_SIGMAS = (15.0, 25.0, 50.0)
"""Noise levels of the validation, in units of 255 grey levels."""


@dataclass(frozen=True)
class Validation:
    """Fixed clean images with fixed noise, never used in training.

    Args:
        crops: images `[n, C, H, W]` in [-1, 1].
        noise: noise of unit standard deviation, of the same shape.
        runtime: device and precision.
        labels: labels `[n]` of the images, if the network takes them.
    """

    crops: Tensor
    noise: Tensor
    runtime: Runtime
    labels: Tensor | None = None

    @classmethod
    def of_photographs(cls, paths: list[Path], runtime: Runtime, n: int = 24, size: int = 128) -> Validation:
        """Make a validation set of `n` crops of side `size` (smaller if the images are smaller)."""
        scales = (600, 360)
        try:
            photos = PhotoSet(paths, size, scales)
        except InputError:
            photos, size = PhotoSet(paths, 16, scales), 16
        rng = np.random.default_rng(20240501)
        return cls.of(photos.crops(n, size, rng, augment=False), runtime, rng)

    @classmethod
    def of(cls, images: Tensor, runtime: Runtime, rng: np.random.Generator, labels: Tensor | None = None) -> Validation:
        """Make a validation set of images `[n, C, H, W]` with noise from `rng`."""
        noise = torch.from_numpy(rng.standard_normal(tuple(images.shape), dtype=np.float32))
        device = runtime.device
        return cls(images.to(device), noise.to(device), runtime, None if labels is None else labels.to(device))

    @torch.no_grad()
    def psnr(self, denoiser: Denoiser) -> dict[float, float]:
        """Return the mean PSNR in dB at each of `VALIDATION_SIGMAS`."""
        result: dict[float, float] = {}
        for level in VALIDATION_SIGMAS:
            sigma = torch.tensor(level / 127.5, device=self.crops.device)
            mse: list[Tensor] = []
            for rows in torch.arange(len(self.crops)).split(8 if self.labels is None else 256):
                x0, condition = self.crops[rows], () if self.labels is None else (self.labels[rows],)
                with self.runtime.autocast():
                    estimate = denoiser(x0 + sigma * self.noise[rows], sigma, *condition)
                mse.append(((estimate.clamp(-1, 1) - x0) / 2).square().mean(dim=(1, 2, 3)))
            result[level] = float(-10 * torch.cat(mse).log10().mean())
        return result
