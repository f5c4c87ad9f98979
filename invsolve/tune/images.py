"""Tuning images: the most detailed crop of each, so that blurred backgrounds do not decide."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from invsolve.bench.data import packaged
from invsolve.core.checks import InputError
from invsolve.io import SUFFIXES, read_image
from invsolve.tasks.resizing import resized

__all__ = ["crops"]

LONGEST = 700


def crops(folder: Path, count: int, size: int) -> Tensor:
    """The most detailed crop of `count` images, spread over the folder in the order of their names, [n, 3, s, s].

    Raises:
        InputError: there is no such folder, it holds fewer images, or one of the images that the suites report on.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder of tuning images {folder}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(files) < count:
        raise InputError(f"{folder} holds {len(files)} images, {count} are needed: give fewer --crops")
    reported = {path.read_bytes(): path.stem for path in packaged()}
    for path in files:
        if (name := reported.get(path.read_bytes())) is not None:
            raise InputError(f"{path} is the image {name}, on which the suites report: tune on others")
    chosen = [files[i * len(files) // count] for i in range(count)]
    return torch.stack([_detailed(read_image(path).pixels.expand(3, -1, -1), size) for path in chosen])


def _detailed(image: Tensor, size: int) -> Tensor:
    height, width = image.shape[1:]
    scale = max(min(1.0, LONGEST / max(height, width)), size / min(height, width))
    height, width = max(size, round(height * scale)), max(size, round(width * scale))
    image = resized(image, (height, width)).clamp(0, 1)
    places = [(t, x) for t in range(0, height - size + 1, 16) for x in range(0, width - size + 1, 16)]
    detail = (image[:, 1:, 1:] - image[:, :-1, 1:]).abs() + (image[:, 1:, 1:] - image[:, 1:, :-1]).abs()
    top, left = max(places, key=lambda p: float(detail[:, p[0] : p[0] + size - 1, p[1] : p[1] + size - 1].mean()))
    return image[:, top : top + size, left : left + size]
