"""What is gained over bicubic interpolation, by what was assumed and what was done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

import invsolve as iv
from benchmarks.common import markdown
from benchmarks.doubts.runs import psnr
from benchmarks.sampling.files import MADE, as_jpeg
from invsolve import priors
from invsolve.tune.images import mixed_crops

__all__ = ["run"]


def run(photos: Path, count: int, side: int, factor: int, quality: int | None, told: list[str]) -> None:
    """Enlarge small images and print the gain for each way of making them smaller.

    Args:
        photos: folder of photographs.
        count: of photographs, a crop of each.
        side: of the small images, in pixels.
        factor: by which they were made smaller.
        quality: of JPEG files; None for lossless ones.
        told: values of `downsampling`.
    """
    import cv2

    prior, rows = priors.load("natural"), []
    for number, image in enumerate(mixed_crops(photos, count, side * factor)):
        clean = image.permute(1, 2, 0).double().numpy()
        for name, (_, smaller) in MADE.items():
            y = smaller((255 * clean).round().astype(np.uint8), factor)
            y = y if quality is None else as_jpeg(y, quality, subsampled=True)
            pixels = torch.from_numpy(np.array(y)).permute(2, 0, 1) / 255
            size = (side * factor, side * factor)
            floor = psnr(cv2.resize(y, size, interpolation=cv2.INTER_CUBIC) / 255, clean)
            row = {"image": number, "made": name, "floor": round(floor, 2)}
            for how in told:
                done = iv.restore(pixels, "superres", factor=factor, downsampling=how, prior=prior)
                row[how] = round(psnr(done.image.pixels.permute(1, 2, 0).double().numpy(), clean) - floor, 2)
                row["found"] = done.record["task"]["downsampling"] if how == "auto" else row.get("found", "")
            rows.append(row)
            print(json.dumps(row), flush=True)
    table = []
    for name in MADE:
        mine = [row for row in rows if row["made"] == name]
        cells = [f"{np.mean([r[how] for r in mine]):+.2f} ({min(r[how] for r in mine):+.2f})" for how in told]
        table.append([name, *cells])
    print(markdown(["made by", *(f"{how}: mean (least) gain, dB" for how in told)], table))
