"""The regressions that detect how an image was made smaller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import markdown
from benchmarks.sampling.files import MADE, as_jpeg, scenes
from invsolve.tasks.sampling import KINDS, spectral_bands

__all__ = ["run"]

FACTORS, SIDES, QUALITIES, FILES = (2, 3, 4), (47, 64, 98, 130), (60, 96), ("lossless", "jpeg")
RIDGE = 2e-4
"""Ridge penalty on the weights of standardised features."""


def run(photos: Path, out: Path | None) -> None:
    """Fit the regressions, print how often they are right on the held-out half of the photographs, and write them.

    Args:
        photos: folder of photographs.
        out: JSON file of the regressions fitted on all photographs.
    """
    tables: dict[str, dict[str, Any]] = {name: {} for name in FILES}
    rows = []
    for (factor, kind), examples in _examples(photos).items():
        bands = torch.stack([each[0] for each in examples])
        kinds, numbers = torch.tensor([each[1:] for each in examples]).T
        halves = [numbers % 2 == half for half in (0, 1)]
        right, sure = torch.zeros(len(KINDS), len(KINDS)), torch.zeros(len(KINDS))
        for mine, others in (halves, halves[::-1]):
            weight, bias = _fit(bands[mine], kinds[mine])
            found = torch.softmax(bands[others] @ weight.T + bias, 1)
            for true in range(len(KINDS)):
                chosen = found[kinds[others] == true]
                right[true] += chosen.argmax(1).bincount(minlength=len(KINDS))
                sure[true] += (chosen[:, KINDS.index("nearest")] > 0.8).sum()
        shares, count = right / right.sum(1, keepdim=True), right.sum(1)
        for i, name in enumerate(KINDS):
            cells = [f"{100 * share:.0f} %" for share in shares[i]]
            rows.append([factor, kind, name, *cells, f"{100 * sure[i] / count[i]:.1f} %"])
        weight, bias = _fit(bands, kinds)
        tables[kind][str(factor)] = {"weight": _rounded(weight), "bias": _rounded(bias)}
    print(markdown(["factor", "file", "made by", *(f"taken for {k}" for k in KINDS), "surely nearest"], rows))
    if out is not None:
        out.write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")


def _rounded(values: Tensor) -> list[Any]:
    return [[round(v, 4) for v in row] if isinstance(row, list) else round(row, 4) for row in values.tolist()]


Examples = list[tuple[Tensor, int, int]]


def _examples(photos: Path) -> dict[tuple[int, str], Examples]:
    """Bands, kind and photograph number of each example, by factor and kind of file."""
    rng = np.random.default_rng(0)
    found: dict[tuple[int, str], Examples] = {(factor, name): [] for factor in FACTORS for name in FILES}
    sides = {side * factor: factor for factor in FACTORS for side in SIDES}
    for number, x in scenes(photos, list(sides), rng):
        factor = sides[len(x)]
        for kind, smaller in MADE.values():
            y = smaller(x, factor)
            packed = as_jpeg(y, int(rng.integers(*QUALITIES)), subsampled=bool(rng.random() < 0.7))
            for name, values in zip(FILES, (y, packed), strict=True):
                pixels = torch.from_numpy(np.array(values)).permute(2, 0, 1) / 255
                found[factor, name].append((spectral_bands(pixels), KINDS.index(kind), number))
    return found


def _fit(bands: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax regression with a ridge penalty; all kinds have equal weight: weight [kinds, 14], bias [kinds]."""
    mean, deviation = bands.mean(0), bands.std(0)
    x = (bands - mean) / deviation
    share = 1 / kinds.bincount(minlength=len(KINDS)).double() / len(KINDS)
    weight = torch.zeros(len(KINDS), x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(KINDS), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        every = torch.nn.functional.cross_entropy(x @ weight.T + bias, kinds, reduction="none")
        loss = (share[kinds] * every).sum() + RIDGE * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    weight, bias = weight.detach(), bias.detach()
    return weight / deviation, bias - weight @ (mean / deviation)
