"""Masks that are painted over an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.core.lazy import torch
from invsolve.io import Image, read_image, write_image

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["painted_mask"]


def painted_mask(editor: Any, image: Path, target: Path) -> Path | None:
    """Write what was painted, and what is transparent in the image, as a white mask; None where nothing was painted.

    Args:
        editor: value of a `gradio.ImageEditor` of arrays: its layers are what was painted, [H, W, 4].
        image: the file that is restored, of any size: what was painted is brought to it.
        target: the mask's file.
    """
    layers = [torch.as_tensor(layer[..., 3]) > 0 for layer in (editor or {}).get("layers", ()) if layer is not None]
    layers = [layer for layer in layers if bool(layer.any())]
    if not layers:
        return None
    read = read_image(image, holes=True)
    size = (read.pixels.shape[1], read.pixels.shape[2])
    missing = torch.stack([_sized(layer, size) for layer in layers]).any(0)
    if read.alpha is not None:
        missing |= read.alpha[0] < 1
    return write_image(target, Image(missing.float()[None], None, 8), overwrite=True)


def _sized(layer: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(layer.shape) == size:
        return layer
    return torch.nn.functional.interpolate(layer[None, None].float(), size=size, mode="nearest-exact")[0, 0] > 0
