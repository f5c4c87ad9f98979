"""The uncertainty of each pixel of a restoration: the images for the viewer, and a description in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.app import viewer
from invsolve.app.words import details, rows
from invsolve.core.lazy import torch
from invsolve.io import Image, write_image

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.restoration.restored import Restoration

__all__ = ["certainty", "left_open"]

SAMPLES = 6
"""Samples drawn to estimate the uncertainty: as many as in the packaged calibration."""

COLOURS = 9
"""Number of colours in the legend."""

CLEAREST, DENSEST = 0.2, 0.85
"""Opacity of the map for the narrowest and for the widest intervals."""

PARTS = (("upper", "middle", "lower"), ("left", "centre", "right"))

SPREAD_OUT = 1.25
"""A ninth of the image is reported as the least certain if its intervals are this many times as wide as on average."""


def certainty(restoration: Restoration, folder: Path) -> dict[str, Any]:
    """Return the viewer's value: restored image, mean, samples and map of interval widths; files go into `folder`."""
    from invsolve.restoration.figure import interval_width

    drawn, (low, high) = restoration.samples, restoration.interval()
    assert drawn is not None
    level, white = interval_width(low, high)
    paths = {"restored": restoration.image.pixels, "mean": drawn.mean(0), "low": low, "high": high}
    paths |= {f"sample {i + 1}": sample for i, sample in enumerate(drawn)}
    written = {name: _write(folder / f"{name}.png", pixels) for name, pixels in paths.items()}
    overlay = _write(folder / "map.png", coloured(level[0]), CLEAREST + (DENSEST - CLEAREST) * level)
    panels = [viewer.panel("Restored", written["restored"]), viewer.panel("Mean", written["mean"])]
    panels += [viewer.panel(f"Sample {i + 1}", written[f"sample {i + 1}"], sample=True) for i in range(len(drawn))]
    ramp = coloured(torch.linspace(0, 1, COLOURS)[None])[:, 0].T
    colours = [f"rgb({', '.join(str(round(255 * float(value))) for value in colour)})" for colour in ramp]
    return viewer.samples(
        panels, (low.shape[1], low.shape[2]), low=written["low"], high=written["high"], overlay=overlay,
        colours=colours, white=255 * white,
    )  # fmt: skip


def coloured(level: Tensor) -> Tensor:
    """Convert levels [H, W] from 0 to 1 to colours of the viridis colour map, [3, H, W]."""
    import cv2

    values = (level.clamp(0, 1) * 255).round().byte().numpy()
    painted = cv2.cvtColor(cv2.applyColorMap(values, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    return torch.from_numpy(painted).permute(2, 0, 1).float() / 255


def left_open(restoration: Restoration) -> str:
    """Describe the remaining uncertainty of a restoration, as HTML."""
    uncertainty = restoration.uncertainty
    assert uncertainty is not None
    low, high = restoration.interval()
    half = 255 * (high - low).mean(0) / 2
    middle, most = (float(torch.quantile(half.flatten()[:: _every(half)], share)) for share in (0.5, 0.9))
    told = [
        ("Half of the pixels", f"are known to within {_grey(middle)}"),
        ("The least certain tenth", f"may be off by {_grey(most)} or more"),
    ]
    if uncertainty.known is not None and bool((~uncertainty.known).any()):
        inside, around = (_grey(float(half[where].mean())) for where in (~uncertainty.known, uncertainty.known))
        told.append(("Where pixels were missing", f"about {inside}; elsewhere about {around}"))
    if where := _least_certain(half):
        told.append(("Least certain", where))
    promise = uncertainty.promise
    kept = "" if promise.startswith("none") else "Measured on photographs: 9 of 10 pixels lie inside their interval. "
    trust = kept or "The intervals were never checked for this kind of damage: take them as a hint. "
    told.append(
        (
            "Can I trust it?",
            trust + "All samples fit your image equally well; where they differ, the true image is uncertain.",
        )
    )
    return rows(told) + details("What is promised", [("Intervals", promise)])


def _grey(value: float) -> str:
    return f"{value:.0f} grey levels of 255" if value >= 1.5 else "about 1 grey level of 255"


def _every(half: Tensor) -> int:
    """Return a subsampling step that leaves few enough values for `torch.quantile`."""
    return max(1, half.numel() // 1_000_000)


def _least_certain(half: Tensor) -> str:
    """Describe the ninth of the image with the widest intervals; "" if all parts are similar."""
    if min(half.shape) < 9:
        return ""
    means = torch.nn.functional.adaptive_avg_pool2d(half[None, None], 3)[0, 0]
    if float(means.max()) < SPREAD_OUT * float(means.mean()):
        return ""
    row, column = divmod(int(means.argmax()), 3)
    down, across = PARTS[0][row], PARTS[1][column]
    place = "the middle of the image" if (row, column) == (1, 1) else f"the {down} {across} of the image"
    return f"{place}, about {_grey(float(means.max()))}"


def _write(path: Path, pixels: Tensor, alpha: Tensor | None = None) -> Path:
    return write_image(path, Image(pixels.clamp(0, 1), alpha, 8), overwrite=True)
