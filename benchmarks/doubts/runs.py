"""Restore the cases and count their warnings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import invsolve as iv
from benchmarks.common import markdown, psnr
from benchmarks.doubts.cases import CASES, Array, Case
from invsolve import priors
from invsolve.tune.images import crops

__all__ = ["run"]

MARGIN = 0.05
"""Difference in dB up to which a restoration below the tool counts as equal."""


@dataclass(frozen=True)
class Row:
    """One restoration: the PSNR of the tool and of the restoration, and its warnings."""

    simple: float
    restored: float
    warnings: tuple[str, ...]

    @property
    def worse(self) -> bool:
        """Whether the tool is better."""
        return self.restored < self.simple - MARGIN


def run(photos: Path, count: int, side: int, names: list[str] | None) -> None:
    """Restore every case on crops of `count` photographs and print the table.

    Args:
        photos: folder of photographs that are not used in other results.
        count: number of photographs, one crop each.
        side: side of the crops in pixels.
        names: beginnings of the cases' names; all if None.
    """
    prior = priors.load("natural")
    images = [image.permute(1, 2, 0).double().numpy() for image in crops(photos, count, side)]
    chosen = [case for case in CASES if names is None or any(case.name.startswith(name) for name in names)]
    found: dict[str, list[Row]] = {}
    for case in chosen:
        found[case.name] = [_restored(case, clean, i, prior) for i, clean in enumerate(images)]
        print(" | ".join(_line(case, found[case.name])), flush=True)
    print(markdown(_HEAD, [_line(case, found[case.name]) for case in chosen]))
    for right in (True, False):
        rows = [row for case in chosen if case.right == right for row in found[case.name]]
        warned, silent = sum(bool(r.warnings) for r in rows), sum(r.worse and not r.warnings for r in rows)
        word = "right" if right else "wrong"
        print(f"{word}: {warned} of {len(rows)} warn, {silent} are below the one-line tool without a warning")


_HEAD = ("case", "told", "one-line tool, dB", "restored, dB", "warn", "worse", "worse without a warning", "of")


def _restored(case: Case, clean: Array, number: int, prior: iv.Prior) -> Row:
    made = case.make(clean, np.random.default_rng([number, CASES.index(case)]))
    done = iv.restore(made.pixels.astype("float32"), prior=prior, **made.options)
    restored = done.image.pixels.permute(1, 2, 0).double().numpy()
    return Row(psnr(made.simple, made.clean), psnr(restored, made.clean), tuple(done.record["warnings"]))


def _line(case: Case, rows: list[Row]) -> list[str]:
    simple, restored = (np.mean([getattr(row, name) for row in rows]) for name in ("simple", "restored"))
    counts = (
        sum(bool(r.warnings) for r in rows),
        sum(r.worse for r in rows),
        sum(r.worse and not r.warnings for r in rows),
        len(rows),
    )
    told = "right" if case.right else "wrong"
    return [case.name, told, f"{simple:.2f}", f"{restored:.2f}", *map(str, counts)]
