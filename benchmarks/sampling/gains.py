"""The gain over bicubic interpolation, by assumed and by actual downsampling."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

import invsolve as iv
from benchmarks.common import eight_bits, markdown, psnr
from benchmarks.sampling.files import MADE, as_jpeg
from invsolve import priors
from invsolve.restoration import run as restoring
from invsolve.restoration.options import Options
from invsolve.restoration.prepare import prepare
from invsolve.tasks.superres import Superres
from invsolve.tune.images import mixed_crops

__all__ = ["run"]

LOSSES_COUNT = 5.0
"""The weight of losses against interpolation, relative to gains."""


def run(photos: Path, count: int, side: int, factor: int, quality: int | None, told: list[str]) -> None:
    """Enlarge small images and print the gain for each way of making them smaller.

    Args:
        photos: folder of photographs.
        count: number of photographs, one crop of each.
        side: side of the small images, in pixels.
        factor: downsampling factor.
        quality: quality of JPEG files; None for lossless files.
        told: values of `downsampling`, and "aliased": the behaviour of auto for an aliased image.
    """
    import cv2

    prior, rows = priors.load("natural"), []
    for number, image in enumerate(mixed_crops(photos, count, side * factor)):
        clean = image.permute(1, 2, 0).double().numpy()
        for name, (_, smaller) in MADE.items():
            y = smaller(eight_bits(clean), factor)
            y = y if quality is None else as_jpeg(y, quality, subsampled=True)
            pixels = torch.from_numpy(np.array(y)).permute(2, 0, 1) / 255
            size = (side * factor, side * factor)
            floor = psnr(cv2.resize(y, size, interpolation=cv2.INTER_CUBIC) / 255, clean)
            row = {"image": number, "made": name, "floor": round(floor, 2)}
            for how in told:
                done = _enlarged(pixels, factor, how, prior)
                row[how] = round(psnr(done.image.pixels.permute(1, 2, 0).double().numpy(), clean) - floor, 2)
                row["found"] = done.record["task"]["downsampling"] if how == "auto" else row.get("found", "")
            rows.append(row)
            print(json.dumps(row), flush=True)
    table = []
    for name in MADE:
        mine = [row for row in rows if row["made"] == name]
        table.append([name, *(_summary([row[how] for row in mine]) for how in told)])
    print(markdown(["made by", *(f"{how}: mean (least; losses five times) gain, dB" for how in told)], table))


def _summary(gains: list[float]) -> str:
    weighed = np.mean([gain if gain > 0 else LOSSES_COUNT * gain for gain in gains])
    return f"{np.mean(gains):+.2f} ({min(gains):+.2f}; {weighed:+.2f})"


def _enlarged(pixels: torch.Tensor, factor: int, how: str, prior: iv.Prior) -> iv.Restoration:
    if how != "aliased":
        return iv.restore(pixels, "superres", factor=factor, downsampling=how, prior=prior)
    about = Superres(factor, "nearest", automatic=True)
    return restoring.run(prepare(pixels, Options(task="superres", about=about, prior=prior)), prior)
