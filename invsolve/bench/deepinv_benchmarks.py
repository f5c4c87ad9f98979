"""The operators of deepinv's public benchmarks (github.com/deepinv/benchmarks), made by deepinv with its own settings.

A suite names them as operators: operator = "invsolve.bench.deepinv_benchmarks:gaussian_blur". `physics` returns the
same operators as deepinv physics with their noise, for `model(y, physics)`.
"""

from __future__ import annotations

from typing import Any

import torch

from invsolve.core.checks import InputError, nearest, require
from invsolve.core.operator import Operator, Shape
from invsolve.metrics import Case
from invsolve.operators.adapt import as_operator

__all__ = ["BENCHMARKS", "downsampling", "gaussian_blur", "inner_psnr", "inpainting", "physics"]

BENCHMARKS = (
    "cbsd68_gaussian_denoising", "div2k_super_resolution_2x", "div2k_inpainting_easy", "div2k_gaussian_deblurring",
)  # fmt: skip
"""Names of the benchmarks in `deepinv_bench.run_benchmark`."""


def physics(benchmark: str, img_size: Shape = (3, 256, 256), *, seed: int = 0) -> Any:
    """Return the deepinv physics of one of `BENCHMARKS`, with its noise model.

    Args:
        benchmark: name of the benchmark.
        img_size: (C, H, W); the benchmarks use 256 x 256 pixels.
        seed: seed of the mask of missing pixels, which the benchmark draws again each time.

    Raises:
        InputError: if there is no such benchmark, or deepinv is not installed.
    """
    require("deepinv", "a benchmark of deepinv")
    from deepinv.physics import Blur, Denoising, Downsampling, GaussianNoise, Inpainting
    from deepinv.physics.functional.blur import gaussian_blur as kernel

    if benchmark == "cbsd68_gaussian_denoising":
        return Denoising(GaussianNoise(0.1))
    if benchmark == "div2k_super_resolution_2x":
        return Downsampling(img_size=tuple(img_size), filter="bicubic", factor=2)
    if benchmark == "div2k_inpainting_easy":
        size: Any = tuple(img_size)
        return Inpainting(img_size=size, mask=0.3, rng=torch.Generator().manual_seed(seed))
    if benchmark == "div2k_gaussian_deblurring":
        return Blur(filter=kernel(sigma=(2.0, 2.0)), noise_model=GaussianNoise(0.05))
    raise InputError(f"deepinv has no benchmark {benchmark!r}; {nearest(benchmark, BENCHMARKS)}")


def _operator(benchmark: str, in_shape: Shape) -> Operator:
    operator: Any = as_operator(physics(benchmark, in_shape), in_shape=tuple(in_shape))
    operator.recipe = (_operator, (benchmark, tuple(in_shape)))
    return operator


def downsampling(in_shape: Shape) -> Operator:
    """Return the downsampling to half the size by deepinv's bicubic filter, circular at the borders."""
    return _operator("div2k_super_resolution_2x", in_shape)


def inpainting(in_shape: Shape) -> Operator:
    """Return the inpainting operator with 30 % known pixels, one mask for all images."""
    return _operator("div2k_inpainting_easy", in_shape)


def gaussian_blur(in_shape: Shape) -> Operator:
    """Return the Gaussian blur of standard deviation 2; outputs that need pixels beyond the border are not measured."""
    return _operator("div2k_gaussian_deblurring", in_shape)


def inner_psnr(case: Case) -> float:
    """Compute the PSNR without a border of 16 pixels, as in the deblurring benchmark: PSNR(center_crop=-16)."""
    from deepinv.loss.metric import PSNR

    return float(PSNR(center_crop=-16)(case.image[None], case.truth[None]))
