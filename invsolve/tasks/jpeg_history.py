"""Detect whether an image was a JPEG file before it was stored in another format, and how it was compressed."""

from __future__ import annotations

import math

from torch import Tensor

from invsolve.io.cosines import cosines
from invsolve.io.jpeg import JPEGTables
from invsolve.io.jpeg_history import detailed_part, found_quality
from invsolve.tasks.jpeg_codec import planes_of, subsampled

__all__ = ["find_tables"]


def find_tables(y: Tensor) -> JPEGTables | None:
    """Return the standard tables that an image was compressed with, see `found_quality`; None if none fit.

    Args:
        y: [C, H, W] in [0, 1].
    """
    part = detailed_part(y)
    quality = found_quality(part)
    if quality is None:
        return None
    tables = JPEGTables.of_quality(quality, colour=len(y) == 3)
    return tables if tables.chroma is None else _with_sampling(255 * part.double(), tables)


def _with_sampling(x: Tensor, tables: JPEGTables) -> JPEGTables:
    """Return the tables with the chroma subsampling that fits best."""
    best, least = tables, math.inf
    for sampling in ((2, 2), (1, 2), (1, 1)):
        tried = JPEGTables(tables.luma, tables.chroma, sampling)
        raw = cosines(subsampled(planes_of(x, tables)[1:], sampling))
        steps = tables.steps(1)
        large = raw.abs() > 0.5 * steps
        off = ((raw / steps - (raw / steps).round()).abs())[large]
        misfit = float(off.mean()) if len(off) else 0.25
        if misfit < 0.8 * least:
            best, least = tried, misfit
    return best
