"""Show images side by side, in a notebook or a script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from invsolve.core.checks import InputError, ShapeError

__all__ = ["show_images"]


def show_images(images: Mapping[str, Any], *, columns: int | None = None, height: float = 2.8) -> Any:
    """Draw images with their titles; pixels appear as squares.

    Args:
        images: images by title: tensors [C, H, W] or [1, C, H, W] of one or three channels in [0, 1], clipped. One
            channel is drawn in grey. A tensor [H, W] is a map with values of any size, drawn in colours with a colour
            bar.
        columns: number of images in a row; all of them if not given.
        height: height of a row, in inches.

    Returns:
        The figure of matplotlib.pyplot.

    Raises:
        InputError: there are no images.
        ShapeError: one of them is not an image.
    """
    import matplotlib.pyplot as plt

    if not images:
        raise InputError("there are no images to show")
    columns = min(columns or len(images), len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(height * columns, (height + 0.3) * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, image) in zip(axes.flat, images.items(), strict=False):
        pixels = _pixels(torch.as_tensor(image).detach().cpu(), title)
        drawn = axis.imshow(pixels, cmap="gray" if pixels.ndim == 3 else "viridis", **_limits(pixels))
        axis.set_title(title, fontsize=10)
        if pixels.ndim == 2:
            figure.colorbar(drawn, ax=axis, shrink=0.8)
    return figure


def _pixels(image: torch.Tensor, title: str) -> np.ndarray:
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim == 2:
        return image.float().numpy()
    if image.ndim != 3 or len(image) not in (1, 3):
        raise ShapeError(f"images must be [C, H, W] with 1 or 3 channels, or [H, W]; {title!r} is {list(image.shape)}")
    return image.float().clamp(0, 1).movedim(0, -1).numpy()


def _limits(pixels: np.ndarray) -> dict[str, Any]:
    return {"vmin": 0, "vmax": 1} if pixels.ndim == 3 else {}
