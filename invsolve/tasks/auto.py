"""Inspect a file, and choose the task that fits the findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from invsolve.core.checks import InputError
from invsolve.core.lazy import torch
from invsolve.tasks.base import Size, Streams
from invsolve.tasks.denoise import Denoise
from invsolve.tasks.jpeg import JPEG

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.io import Image
    from invsolve.io.jpeg import JPEGTables
    from invsolve.noise.estimated import NoiseEstimate

__all__ = ["Auto", "Findings", "Unchanged", "holes_of", "look"]

LITTLE = 0.006
"""Noise that is certainly above this level is removed. Lower noise is invisible, or may be fine texture."""

LARGEST_HOLES = 0.25
"""Largest share of transparent pixels that count as wide holes; a larger share is intentional transparency."""

NARROW = (3.0, 12.0)
"""Largest mean and maximum distance in pixels from narrow transparent areas to an opaque pixel; proportionally less
for images smaller than 120 and 130 pixels."""

FRAME = 0.15
"""Border width as a share of the shorter side. Transparency only within it is a frame or rounded corners."""


@dataclass(frozen=True)
class Findings:
    """The findings about a file.

    Attributes:
        task: the task that fits: "inpaint", "denoise", "jpeg", "demosaic", or "unchanged".
        noise: see `invsolve.estimate_noise`.
        jpeg: the JPEG compression, read from the file or detected from its pixels; None without any trace of JPEG.
        compression_error: root mean square of the compression error, in [0, 1] units; 0 without JPEG.
        missing: share of missing pixels.
        edge_width: see `invsolve.tasks.sharpness.edge_width`; None with too few edges.
        sentences: text descriptions of the findings and the action taken.
    """

    task: Literal["inpaint", "denoise", "jpeg", "demosaic", "unchanged"]
    noise: NoiseEstimate
    jpeg: JPEGTables | None
    compression_error: float
    missing: float
    edge_width: float | None
    sentences: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Return the findings as plain values."""
        return {
            "task": self.task,
            "found": list(self.sentences),
            "noise": self.noise.sigma,
            "jpeg_quality": None if self.jpeg is None else self.jpeg.quality,
            "compression_error": self.compression_error,
            "missing": self.missing,
            "edge_width": self.edge_width,
        }


@dataclass(frozen=True)
class Unchanged(Denoise):
    """Return the image unchanged."""

    name = "unchanged"


@dataclass(frozen=True)
class Auto(Denoise):
    """Select the task that fits the file, using `look`. It cannot be simulated."""

    name = "auto"
    fills_holes = True
    tuning = {}

    @classmethod
    def section(cls, options: Any) -> str:
        return Denoise.name

    @classmethod
    def from_options(cls, options: Any, image: Image, simulation: Streams | None) -> Self:
        raise InputError(
            "the task auto inspects a degraded file, so it cannot be simulated: give --task, or omit --simulate"
        )

    @classmethod
    def draw(cls, options: Any, size: Size, streams: Streams) -> dict[str, Tensor]:
        raise InputError("the task auto inspects files, which a suite does not have: name another task")


def look(image: Image, noise: NoiseEstimate) -> Findings:
    """Find out what is wrong with an image, and select one task to repair it.

    A camera raw file is demosaiced. Otherwise holes have priority, then noise, then JPEG artefacts. Inpainting and
    denoising also account for other noise and artefacts. If nothing is certainly wrong, the image stays unchanged: fine
    texture all over an image cannot be distinguished from noise. A blur is only reported, because it may be intended.

    Args:
        image: the image as read, NaN at missing pixels.
        noise: noise of the image.
    """
    from invsolve.tasks.jpeg_history import find_tables
    from invsolve.tasks.sharpness import BLURRED, edge_width

    if image.mosaic is not None:
        return _of_sensor(image, noise)
    missing = float(holes_of(image).float().mean())
    pixels = image.pixels
    tables = image.jpeg
    if tables is None and not bool(torch.isnan(pixels).any()):
        tables = find_tables(pixels)
    codec = None if tables is None else JPEG.of_tables(tables, pixels, "pixels" if image.jpeg is None else "file")
    error = 0.0 if codec is None else codec.level
    height, width = image.size
    told = [f"{width} x {height} pixels", _noise_sentence(noise), _jpeg_sentence(image, tables, error, noise.history)]
    edges = None if bool(torch.isnan(pixels).any()) else edge_width(pixels)
    if edges is not None and edges >= BLURRED:
        told.append(
            f"looks blurred: its sharpest edges are about {edges:.1f} pixels wide (use --task blind-deblur for camera "
            "shake, --blur-sigma for defocus)"
        )
    noisy = noise.sure and noise.low > LITTLE and (codec is None or codec.was_noisy(pixels, noise))
    if missing > 0:
        task, done = "inpaint", f"{100 * missing:.3g} % of the pixels are missing: they are filled in"
    elif noisy:
        task, done = "denoise", "the noise is removed"
    elif codec is not None and error > LITTLE and not codec.may_be_noisy(pixels):
        task, done = "jpeg", "the artefacts of the compression are removed"
    else:
        task, done = "unchanged", "no clear degradation was found: the image is returned unchanged"
    return Findings(task, noise, tables, error, missing, edges, (*told, done))


def _of_sensor(image: Image, noise: NoiseEstimate) -> Findings:
    """Findings for a raw file: it has no holes or compression artefacts, and always sensor noise."""
    assert image.mosaic is not None
    height, width = image.size
    pattern = image.mosaic.pattern if len(image.mosaic.pattern) == 4 else "of an X-Trans sensor"
    told = (f"{width} x {height} pixels", f"values of a sensor behind colour filters {pattern}")
    done = "missing colours are filled in and noise is removed in one step"
    return Findings("demosaic", noise, None, 0.0, 0.0, None, (*told, done))


def holes_of(image: Image) -> Tensor:
    """Return the mask of missing pixels, bool [H, W]: NaN, or transparent holes inside an image.

    Transparency is intentional (a cut-out, a logo, rounded corners) if there are partly transparent pixels, or if it is
    a wide area that reaches the image border or covers a large part of the image. Transparent areas that are narrow
    everywhere, and not only along the border, are missing pixels, whatever their share: scratches, letters, single
    pixels.
    """
    unknown = torch.isnan(image.pixels).any(0)
    if image.alpha is None:
        return unknown
    clear = image.alpha[0] < 1
    shaded = clear & (image.alpha[0] > 0)
    if bool(shaded.any()) or not 0 < float(clear.float().mean()) < 1:
        return unknown
    holes = _narrow(clear) or (float(clear.float().mean()) <= LARGEST_HOLES and not _reaches_the_border(clear))
    return unknown | clear if holes else unknown


def _reaches_the_border(clear: Tensor) -> bool:
    return bool(torch.cat([clear[0], clear[-1], clear[:, 0], clear[:, -1]]).any())


def _narrow(clear: Tensor) -> bool:
    """Whether all transparent pixels are near opaque ones, and not only along the border of the image."""
    from scipy.ndimage import distance_transform_edt

    depth = torch.from_numpy(distance_transform_edt(clear.numpy()))[clear]
    short = min(clear.shape)
    frame = round(FRAME * short)
    inside = clear[frame : clear.shape[0] - frame, frame : clear.shape[1] - frame]
    widest = float(depth.max()) <= min(NARROW[1], NARROW[1] * short / 130)
    return widest and float(depth.mean()) <= min(NARROW[0], NARROW[0] * short / 120) and bool(inside.any())


def _noise_sentence(noise: NoiseEstimate) -> str:
    return noise.description if noise.sigma > LITTLE else f"little noise ({noise.sigma:.2g})"


def _jpeg_sentence(image: Image, tables: JPEGTables | None, error: float, history: str) -> str:
    if tables is None:
        return "no trace of JPEG compression" if history != "jpeg" else "compressed before, with unknown settings"
    kind = "a JPEG file" if image.jpeg is not None else "a JPEG before it was saved as this file"
    return f"{kind} of quality {tables.quality}, which changed each pixel by about {error:.2g}"
