"""Photographs of scikit-image and scikit-learn, which were not used for calibration or tuning."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from benchmarks.photographs import photograph
from invsolve.tune.images import crop_of_rank

__all__ = ["RANKS", "held_out"]

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
