"""Tuning images: the most detailed crop of each, so that blurred backgrounds do not dominate, or crops of all kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor

from invsolve.bench.data import packaged
from invsolve.core.checks import InputError
from invsolve.io import read_image
from invsolve.io.folder import images_in
from invsolve.tasks.resizing import resized

__all__ = ["crop_of_rank", "crops", "detailed_crops", "mixed_crops"]

LONGEST = 700


def crops(folder: Path, count: int, size: int) -> Tensor:
    """Return the most detailed crop of each of `count` images, [n, 3, s, s], spread over the folder in name order.

    Raises:
        InputError: if there is no such folder, it has too few images, or it contains an image that suites report on.
    """
    return _of_ranks(_spread(folder, count), [1.0] * count, size)


def mixed_crops(folder: Path, count: int, size: int) -> Tensor:
    """Return a crop of each of `count` images, [n, 3, s, s], some flat, some of medium detail, some very detailed.

    The rank of a crop's detail among all crops of its image runs from 1/4 to 1 over the images.

    Raises:
        InputError: see `crops`.
    """
    # a step of 7 / 16 of the ranks, so that neighbours in name order differ
    return _of_ranks(_spread(folder, count), [0.25 + 0.75 * (i * 7 % 16) / 15 for i in range(count)], size)


def detailed_crops(folder: Path, count: int, size: int) -> Tensor:
    """Return a crop of each of `count` images, [n, 3, s, s], from medium detail to the most detailed.

    The rank of a crop's detail among all crops of its image lies between 1/2 and 1, so the flat half of a photograph
    is avoided. The rank depends only on the file name, so it is the same for any `count`.

    Raises:
        InputError: see `crops`.
    """
    chosen = _spread(folder, count)
    return _of_ranks(chosen, [0.5 + 0.5 * crc32(path.name.encode()) / 2**32 for path in chosen], size)


def _of_ranks(paths: Sequence[Path], ranks: Sequence[float], size: int) -> Tensor:
    images = zip(paths, ranks, strict=True)
    return torch.stack([crop_of_rank(read_image(path).pixels.expand(3, -1, -1), size, rank) for path, rank in images])


def _spread(folder: Path, count: int) -> list[Path]:
    """Return `count` image files, spread over the folder in name order."""
    if not folder.is_dir():
        raise InputError(f"there is no folder of tuning images {folder}")
    files = images_in(folder)
    if len(files) < count:
        raise InputError(f"{folder} holds {len(files)} images, {count} are needed: give fewer --crops")
    reported = {path.read_bytes(): path.stem for path in packaged()}
    for path in files:
        if (name := reported.get(path.read_bytes())) is not None:
            raise InputError(f"{path} is the image {name}, on which the suites report results: tune on other images")
    return [files[i * len(files) // count] for i in range(count)]


def crop_of_rank(image: Tensor, size: int, rank: float = 1.0) -> Tensor:
    """Return the crop whose detail has this rank among all crops: 0 is the flattest, 1 the most detailed."""
    height, width = image.shape[1:]
    scale = max(min(1.0, LONGEST / max(height, width)), size / min(height, width))
    height, width = max(size, round(height * scale)), max(size, round(width * scale))
    image = resized(image, (height, width)).clamp(0, 1)
    places = [(t, x) for t in range(0, height - size + 1, 16) for x in range(0, width - size + 1, 16)]
    detail = (image[:, 1:, 1:] - image[:, :-1, 1:]).abs() + (image[:, 1:, 1:] - image[:, 1:, :-1]).abs()
    order = sorted(places, key=lambda p: float(detail[:, p[0] : p[0] + size - 1, p[1] : p[1] + size - 1].mean()))
    top, left = order[round(rank * (len(order) - 1))]
    return image[:, top : top + size, left : left + size]
