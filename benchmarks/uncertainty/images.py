"""Photographs of scikit-image and scikit-learn, which were not used for calibration or tuning."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from skimage import data
from sklearn.datasets import load_sample_image
from torch import Tensor

from invsolve.tune.images import crop_of_rank

__all__ = ["held_out", "photograph"]

NAMES = (
    "astronaut", "chelsea", "coffee", "rocket", "china", "flower", "camera", "brick", "grass", "stereo_motorcycle",
    "hubble_deep_field", "gravel",
)  # fmt: skip

RANKS = (0.5, 0.9)
"""Ranks of a crop's detail among the crops of its photograph."""


def held_out(side: int) -> Iterator[tuple[str, Tensor]]:
    """24 crops [3, side, side] in [0, 1] of twelve photographs, with their names."""
    for name in NAMES:
        image = photograph(name)
        for rank in RANKS:
            yield f"{name}-{rank:g}", crop_of_rank(image, side, rank)


def photograph(name: str) -> Tensor:
    """A photograph by its name, [3, H, W] in [0, 1]."""
    if name in ("china", "flower"):
        values = load_sample_image(f"{name}.jpg")
    else:
        values = getattr(data, name)()
        values = values[0] if isinstance(values, tuple) else values
    values = np.asarray(values)
    planes = values[None] if values.ndim == 2 else values[..., :3].transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes)).float().div(255).expand(3, -1, -1)
