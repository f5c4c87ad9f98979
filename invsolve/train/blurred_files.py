"""Blurred files made from photographs, the kernels estimated from their edges, and the true kernels.

A crop of a photograph, including its surroundings, is blurred by a kernel of `draw_kernel`. White noise is added, and
the result is written as a PNG or JPEG and read back. The noise level is the one that `invsolve.restore` would estimate
for that file, and the kernel estimate that of `estimate_kernel`. An example takes about two seconds.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.files import written_whole
from invsolve.io import read_header
from invsolve.train.data import read_image
from invsolve.train.kernels import FRAME, draw_kernel

__all__ = ["SIDE", "BlurredFiles", "Examples", "examples"]

logger = logging.getLogger(__name__)

SIDE = 33
"""Height and width of the estimated kernels."""

CROP = 256
"""Height and width of the files, in pixels."""

_NEEDED = CROP + FRAME - 1
_SCALES, _LONGEST = (1.0, 2 / 3, 0.45), 1600
_NOISE = (0.002, 0.022)
_FORMATS: tuple[tuple[str, dict[str, Any]], ...] = (
    (".png", {}),
    (".png", {}),
    (".jpg", {"quality": 95}),
    (".jpg", {"quality": 90}),
    (".jpg", {"quality": 75}),
)
_GREY_SHARE = 0.1
_CANDIDATES = 4
_PART = 50


class Examples(NamedTuple):
    """n pairs of an estimate and the true kernel.

    Attributes:
        evidence: [n, channels, 33, 33], see `invsolve.tasks.blind.evidence`.
        true: the true kernels [n, 35, 35].
        sigma: noise level of the grey images [n], as estimated from the files.
        scale: c of the images' spectrum c f^-2.4 [n].
    """

    evidence: Tensor
    true: Tensor
    sigma: Tensor
    scale: Tensor


@dataclass(frozen=True)
class BlurredFiles:
    """Examples from photographs: example i depends only on the photographs, the seed and i.

    Args:
        paths: the photographs.
        seed: seed of everything random.
    """

    paths: list[Path]
    seed: int = 0

    def __post_init__(self) -> None:
        large = [path for path in self.paths if _shortest_side(path) >= _NEEDED]
        if not large:
            raise InputError(f"every image is smaller than {_NEEDED} pixels; choose larger images")
        object.__setattr__(self, "paths", large)

    def example(self, index: int) -> Examples:
        """Make example `index`, with n = 1."""
        from invsolve.tasks.blind.edges import estimate_kernel, grey_window
        from invsolve.tasks.blind.evidence import evidence_of
        from invsolve.tasks.blind.spectrum import scale_of

        pixels, sigma, true = self.file(np.random.default_rng((self.seed, 5, index)))
        grey = grey_window(pixels)
        pictures = evidence_of(grey, estimate_kernel(pixels, SIDE).to(grey), sigma)
        return Examples(
            pictures[None], torch.from_numpy(true)[None].float(), torch.tensor([sigma]), scale_of(grey)[None]
        )

    def file(self, rng: np.random.Generator) -> tuple[Tensor, float, NDArray[np.float64]]:
        """Make a blurred file; return its pixels [C, 256, 256], its estimated grey noise level and kernel [35, 35]."""
        from invsolve.tasks.deblur import Deblur

        clean, true = self.crop(rng), draw_kernel(rng)
        blurred, _ = Deblur(torch.from_numpy(true)).degrade(clean)
        level = math.exp(rng.uniform(math.log(_NOISE[0]), math.log(_NOISE[1])))
        noisy = blurred.numpy() + level * rng.standard_normal(blurred.shape)
        return *_written(noisy, *_FORMATS[int(rng.integers(len(_FORMATS)))]), true

    def crop(self, rng: np.random.Generator) -> Tensor:
        """Draw a crop [1 or 3, 290, 290] in [0, 1] with some contrast."""
        image = _read(self.paths[int(rng.integers(len(self.paths)))])
        factor = _SCALES[int(rng.integers(len(_SCALES)))]
        image = _scaled(image, max(factor, _NEEDED / min(image.shape[:2])))
        crops = []
        for _ in range(_CANDIDATES // 2 if rng.random() < 0.5 else _CANDIDATES):
            top, left = (int(rng.integers(length - _NEEDED + 1)) for length in image.shape[:2])
            crops.append(image[top : top + _NEEDED, left : left + _NEEDED].astype(np.float32) / 255)
        crop = max(crops, key=lambda c: float(np.abs(np.diff(c.mean(2), axis=0)).mean()))
        crop = np.rot90(crop, int(rng.integers(4)))
        crop = crop[:, ::-1] if rng.random() < 0.5 else crop
        crop = crop.mean(2, keepdims=True) if rng.random() < _GREY_SHARE else crop
        return torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1).contiguous()


@lru_cache(maxsize=64)
def _read(path: Path) -> NDArray[np.uint8]:
    return read_image(path, _LONGEST)


def _shortest_side(path: Path) -> int:
    """Return the shortest side of the image as it is read, in pixels."""
    header = read_header(path)
    return int(min(header.height, header.width) * min(1, _LONGEST / max(header.height, header.width)))


def _scaled(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    from PIL import Image

    if factor == 1:
        return image
    size = (math.ceil(image.shape[1] * factor), math.ceil(image.shape[0] * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _written(noisy: NDArray[Any], suffix: str, options: dict[str, Any]) -> tuple[Tensor, float]:
    """Write a file and read it back; return its pixels and the estimated noise level of their channel mean."""
    from PIL import Image

    from invsolve import io
    from invsolve.noise.estimate import noise_of
    from invsolve.noise.white import QUANTISATION
    from invsolve.tasks.deblur import Deblur

    values = (noisy.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        Image.fromarray(values if values.shape[2] == 3 else values[..., 0]).save(path, **options)
        image = io.read_image(path)
    codec = Deblur.codec_of(image, None)
    sigma = noise_of(image.pixels, tables=image.jpeg).effective
    sigma = sigma if codec is None else max(sigma, codec.noise)
    return image.pixels, max(sigma, QUANTISATION) / 3**0.5


def examples(files: BlurredFiles, count: int, folder: Path, workers: int) -> Examples:
    """Return examples 0 to `count` - 1: those in `folder` are read, the others computed and written there.

    Args:
        files: the source of the examples.
        count: number of examples.
        folder: examples computed before with the same photographs and seed.
        workers: number of processes that share the work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, _PART)
    missing = [start for start in starts if not (folder / f"{start}.pt").exists()]
    if missing:
        logger.info("%d examples to make, %d at a time", _PART * len(missing), workers)
        for k, start in enumerate(_made(files, missing, folder, workers)):
            if (k + 1) % 5 == 0:
                logger.info("%d of %d parts, last from example %d", k + 1, len(missing), start)
    parts = [Examples(*torch.load(folder / f"{start}.pt", weights_only=True)) for start in starts]
    return Examples(*(torch.cat(column)[:count].float() for column in zip(*parts, strict=True)))


def _made(files: BlurredFiles, starts: list[int], folder: Path, workers: int) -> Iterator[int]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_make_part, [files] * len(starts), starts, [folder] * len(starts))


def _make_part(files: BlurredFiles, start: int, folder: Path) -> int:
    torch.set_num_threads(1)
    drawn = [files.example(index) for index in range(start, start + _PART)]
    columns = [torch.cat(column) for column in zip(*drawn, strict=True)]
    with written_whole(folder / f"{start}.pt") as part:
        torch.save([columns[0].half(), *columns[1:]], part)
    return start
