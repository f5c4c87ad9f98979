"""The test images of the benchmarks: photographs of scikit-image and scikit-learn.

No prior of this package was trained on them, and no setting was tuned with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["held_out", "middles", "photograph", "pixels_of"]

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "china", "flower")


def pixels_of(name: str) -> NDArray[np.uint8]:
    """The pixels of a photograph, [H, W, 3] or [H, W]; of stereoscopic ones the left image."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    found: Any = load_sample_image(f"{name}.jpg") if name in ("china", "flower") else getattr(data, name)()
    return np.asarray(found[0] if isinstance(found, tuple) else found)


def photograph(name: str) -> Tensor:
    """A photograph by its name, [3, H, W] in [0, 1]."""
    values = pixels_of(name)
    planes = values[None] if values.ndim == 2 else values[..., :3].transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes)).float().div(255).expand(3, -1, -1)


def middles(side: int = 256) -> dict[str, NDArray[np.uint8]]:
    """The middle [side, side, 3] of each of six photographs, by name."""
    found = {}
    for name in NAMES:
        values = pixels_of(name)
        top, left = ((length - side) // 2 for length in values.shape[:2])
        found[name] = np.ascontiguousarray(values[top : top + side, left : left + side, :3])
    return found


def held_out(side: int = 256) -> Iterator[tuple[str, Tensor]]:
    """Names and middles [3, side, side] in [0, 1] of the six photographs."""
    for name, values in middles(side).items():
        yield name, torch.from_numpy(values).permute(2, 0, 1).float() / 255
