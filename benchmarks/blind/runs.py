"""Write the blurred files and restore them with the default command: a row of numbers for each."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import invsolve as iv
from benchmarks.blind.design import MARGIN, Run, kernel_of, scenes
from benchmarks.blind.kernels import Kernel
from benchmarks.common import add_row, rows_of, write_image
from invsolve.restoration import Restoration
from invsolve.tasks.deblur import Deblur
from invsolve.tune.found_blur import moved_to

__all__ = ["correlation", "make_file", "one", "psnr", "run"]

Array = NDArray[Any]

REACH = 8
"""Largest shift in pixels between image and truth: a blurred image does not show the exact position of its scene."""

STORAGE: dict[str, tuple[str, dict[str, Any]]] = {
    "PNG": (".png", {}),
    "JPEG 90": (".jpg", {"quality": 90}),
    "JPEG 75": (".jpg", {"quality": 75}),
}


def run(folder: Path, runs: Sequence[Run], side: int, photos: Path | None = None) -> Iterator[dict[str, Any]]:
    """Compute and yield the rows that are not yet in `folder`; each is added to rows.jsonl.

    Args:
        folder: folder of files, restorations and rows.
        runs: the runs.
        side: side of the images, in pixels.
        photos: folder of tuning photographs, used instead of the held-out ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    specified = [asdict(run) | {"told": list(run.told), "side": side} for run in runs]
    done = [{key: row[key] for key in specified[0]} for row in rows_of(folder)]
    if all(spec in done for spec in specified):
        return
    images = scenes(side, photos)
    for run, spec in zip(runs, specified, strict=True):
        if spec in done:
            continue
        name, scene = images[run.photograph, run.crop]
        row = spec | {"image": name} | one(run, scene, folder)
        add_row(folder, row)
        yield row


def one(run: Run, scene: Tensor, folder: Path) -> dict[str, Any]:
    """Make one file, restore it with and without its kernel, and compare.

    Args:
        run: the settings of the file.
        scene: [3, side + 2 MARGIN, side + 2 MARGIN] in [0, 1].
        folder: where the file, both restorations and both kernels are written.
    """
    kernel, clean = kernel_of(run), _middle(scene, MARGIN)
    path = make_file(run, kernel, scene, folder / "files")
    known = iv.restore(path, "deblur", kernel=kernel)
    began = time.process_time()
    blind = iv.restore(path, "blind-deblur", **run.options)
    seconds = time.process_time() - began
    assert blind.kernel is not None
    found = blind.kernel.double().numpy()
    restored, told = (_array(done.image.pixels) for done in (blind, known))
    with Image.open(path) as file:
        pixels = np.atleast_3d(np.asarray(file)) / 255.0
    for what, shown in (("blind", restored), ("known", told), ("kernels", _side_by_side(kernel, found))):
        write_image(shown, folder / what / f"{run.name}.png")
    record, target = blind.record, _array(clean)
    return {
        "blurred": psnr(pixels, target),
        "known": psnr(told, target),
        "blind": psnr(restored, target),
        "unchecked": psnr(_unchecked(blind, len(clean[0])), target),
        "correlation": round(correlation(found, kernel), 4),
        "noise found": round(record["noise"]["sigma"], 5),
        "noise used": round(record["noise"]["used"], 5),
        "estimate": record["estimate"],
        "checks": {name: round(value, 4) for name, value in record["checks"].items()},
        "status": record["status"][0],
        "warnings": record["warnings"],
        "known warnings": known.record["warnings"],
        "seconds": round(seconds, 2),
    }


def _unchecked(blind: Restoration, side: int) -> Array:
    """The estimate, even if the image was returned unchanged: the part of the scene that the image shows."""
    assert blind.kernel is not None
    start = blind.kernel.shape[0] // 2
    scene = blind.result.samples[0, 0].float().clamp(0, 1)
    return _array(scene[:, start : start + side, start : start + side].cpu())


def make_file(run: Run, kernel: Kernel, scene: Tensor, folder: Path) -> Path:
    """Write the blurred image with noise to an 8-bit file; a grey photograph has one channel.

    Args:
        run: the settings of the file.
        kernel: blur kernel, [size, size].
        scene: the sharp scene; the image shows its middle.
        folder: folder of the file.
    """
    part = _middle(scene, MARGIN - run.size // 2)
    part = part[:1] if bool((part == part[:1]).all()) else part
    y = _array(blurred(part, kernel))
    y = y + run.noise * run.generator("noise").standard_normal(y.shape)
    suffix, options = STORAGE[run.format]
    path = folder / f"{run.name}{suffix}"
    write_image(y, path, **options)
    return path


def blurred(scene: Tensor, kernel: Kernel) -> Tensor:
    """[C, h, w] -> [C, h - s + 1, w - s + 1]: a camera's image of a scene that continues beyond the image."""
    return Deblur(torch.from_numpy(kernel)).degrade(scene)[0]


def psnr(x: Array, clean: Array) -> float:
    """PSNR in dB of [h, w, 1 or 3] at the best shift, over the part that all shifts have in common.

    Shifts by fractions of a pixel, by splines of degree 5, are searched around the best shift by whole pixels.
    """
    image, target = (torch.from_numpy(np.moveaxis(values, 2, 0).copy()) for values in (x, clean))
    middle = (..., slice(REACH, -REACH), slice(REACH, -REACH))
    error = (moved_to(image, target, REACH) - target)[middle].square().mean()
    return round(-10 * math.log10(float(error) + 1e-12), 3)


def correlation(found: Kernel, true: Kernel) -> float:
    """Normalised correlation of two kernels at the best shift, in eighths of a pixel."""
    side = len(found) + len(true) + (len(found) + len(true)) % 2
    product = np.fft.fftshift(np.fft.fft2(found, (side, side)).conj() * np.fft.fft2(true, (side, side)))
    finer = np.fft.ifft2(np.fft.ifftshift(np.pad(product, 7 * side // 2))).real * 8**2
    return float(finer.max() / (np.linalg.norm(found) * np.linalg.norm(true)))


def _middle(scene: Tensor, margin: int) -> Tensor:
    return scene[:, margin : scene.shape[1] - margin, margin : scene.shape[2] - margin]


def _array(x: Tensor) -> Array:
    return x.permute(1, 2, 0).double().numpy()


def _side_by_side(true: Kernel, found: Kernel, zoom: int = 6) -> Array:
    """Both kernels, each relative to its largest entry, in frames of one size."""
    side = max(len(true), len(found))
    frames = [np.pad(k / k.max(), (side - len(k)) // 2) for k in (true, found)]
    return np.kron(np.hstack([np.pad(frame, 1, constant_values=0.3) for frame in frames]), np.ones((zoom, zoom)))
