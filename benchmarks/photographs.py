"""The test images of several benchmarks: photographs of scikit-image and scikit-learn.

No prior of this package was trained on them, and no setting was tuned with them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

__all__ = ["held_out"]


def held_out(side: int = 256) -> Iterator[tuple[str, Tensor]]:
    """Names and test images [3, side, side] in [0, 1], the middle of each photograph."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    arrays = {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    arrays |= {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    for name, array in arrays.items():
        top, left = (array.shape[0] - side) // 2, (array.shape[1] - side) // 2
        crop = np.ascontiguousarray(array[top : top + side, left : left + side, :3])
        yield name, torch.from_numpy(crop).permute(2, 0, 1).float() / 255
