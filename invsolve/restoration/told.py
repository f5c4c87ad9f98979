"""Compare the information given about an image with what the image shows.

The thresholds were set on training photographs, so that fewer than 1 in 20 correct runs gets a warning:
`python -m benchmarks.doubts`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from torch.nn import functional as F

from invsolve.io.jpeg import unturned
from invsolve.noise.estimate import noise_of
from invsolve.noise.tiles import MIN_SIDE, tiles_of
from invsolve.noise.white import QUANTISATION
from invsolve.restoration.job import Job, both
from invsolve.restoration.spectrum import read_size
from invsolve.tasks.blind_deblur import BlindDeblur
from invsolve.tasks.deblur import Deblur
from invsolve.tasks.jpeg_codec import expected_error
from invsolve.tasks.jpeg_history import find_tables
from invsolve.tasks.superres import Superres

__all__ = ["SMALLEST", "Doubts", "compare_with_image"]

HOLE = 36
"""Width in pixels from which a local prior cannot restore the middle of a hole."""

NOISE_RATIO, NOISE_FLOOR = 2.0, 0.006
"""Allowed factor between the given noise level and that of the image; levels below NOISE_FLOOR are raised to it."""

BEYOND = 6.0
"""Distance from [0, 1] in standard deviations of the noise above which a value is not explained by it."""

CODEC = 2.0
"""Allowed compression error of the file, as a multiple of the noise level."""

WIDER = 15.0
"""Evidence for a narrower blur of the same shape above which a warning is given; see `SizeReading.evidence`."""

ALIASED = 0.8
"""Probability of downsampling without smoothing above which a warning is given."""

SMALLEST = 32
"""Smallest side in pixels of an image that is compared with what was told."""


@dataclass(frozen=True)
class Doubts:
    """Warnings, failures and the checks behind them.

    Attributes:
        warnings: sentences that say what is wrong, and what to do.
        failures: sentences for the status of a failed result.
        checks: the numbers behind them.
        nothing_found: whether a blur was searched for but not found, so that the image is returned unchanged.
    """

    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    checks: dict[str, float] = field(default_factory=dict)
    nothing_found: bool = False

    def status(self, sentence: str) -> str:
        """The status of a sample: the solver's status if it ended early or nothing failed, else the first failure."""
        return sentence if sentence.startswith("ended") or not self.failures else self.failures[0]


def compare_with_image(job: Job, found: Doubts) -> None:
    """Compare the given information with the image, and add warnings and checks to `found`."""
    _highlights(job, found)
    _noise(job, found)
    _compression(job, found)
    _wide_hole(job, found)
    _blur(job, found)
    _downsampling(job, found)


def _highlights(job: Job, found: Doubts) -> None:
    """Check for values beyond black and white that the noise does not explain; files of floats may have them."""
    reach = BEYOND * job.noise.sigma
    share = float(((job.y > 1 + reach) | (job.y < -reach)).float().mean())
    if share > 0 and not job.options.simulate and job.task.name != "custom":  # its measurement may have any values
        found.checks["beyond"] = share
        found.warnings.append(
            f"{100 * share:.2g} % of the values are beyond black and white (from {float(job.y.min()):.3g} to "
            f"{float(job.y.max()):.3g}) and are clipped to [0, 1]: scale the image first if they matter"
        )


def _noise(job: Job, found: Doubts) -> None:
    """Compare the given noise level with that of the image."""
    known = both(job.task.known(job.y), job.image.seen)
    if job.noise.method != "given" or job.options.simulate or min(job.measured) < MIN_SIDE:
        return
    if not len(tiles_of(job.y, known)):  # no tile is complete enough for an estimate
        return
    read = noise_of(job.y if known is not None else job.task.noise_sample(job.y), known)
    told, seen = max(job.noise.sigma, NOISE_FLOOR), max(read.sigma, NOISE_FLOOR)
    found.checks["noise_seen"] = read.sigma
    if not read.sure:
        return
    if told > NOISE_RATIO * max(read.high, NOISE_FLOOR):
        found.warnings.append(
            f"the given noise level, {job.noise.sigma:.3g}, is {told / seen:.1f} times what the image shows, "
            f"{read.sigma:.3g}: fine detail is treated as noise; omit --noise to have the level estimated"
        )
    if told * NOISE_RATIO < read.low:
        found.warnings.append(
            f"the given noise level, {job.noise.sigma:.3g}, is less than the image shows, {read.sigma:.3g}: noise is "
            "treated as detail and kept or amplified; omit --noise to have the level estimated"
        )


def _compression(job: Job, found: Doubts) -> None:
    """Compare the compression error of the file with the noise level that the solver uses."""
    if job.task.name == "jpeg" or job.options.simulate or min(job.measured) < SMALLEST:
        return
    tables = job.image.jpeg
    if tables is None and (job.noise.history == "jpeg" or job.noise.method == "given"):
        tables = find_tables(job.y)
    if tables is None or (tables.chroma is not None and len(job.y) != 3):
        return
    taken = expected_error(unturned(job.y, tables.orientation), tables)
    found.checks["compression"] = taken
    if taken <= CODEC * job.noise.sigma:
        return
    remedy = "--task jpeg removes them" if job.task.name == "denoise" else "run --task jpeg first, or give --noise"
    remedy += "" if job.task.name == "denoise" else f" {taken:.2g}"
    found.warnings.append(
        f"JPEG compression (quality {tables.quality}) changed the pixels by about {taken:.2g}, more than {CODEC:g} "
        f"times the assumed noise of {job.noise.sigma:.2g}, so its blocks are treated as detail: {remedy}"
    )


def _wide_hole(job: Job, found: Doubts) -> None:
    """Compare the widest hole with the width that a local prior can fill."""
    known = job.task.known(job.y)
    if known is None or bool(known.all()):
        return
    width = _widest(~known)
    found.checks["hole"] = width
    if job.traits.scope == "local" and width >= HOLE:
        found.warnings.append(
            f"a missing region is {width:.0f} pixels wide; this prior models detail, not objects, so the middle of a "
            f"region of {HOLE} pixels or more is a smooth guess: use a prior of whole images (--prior), or a smaller "
            "image"
        )


def _widest(missing: Tensor) -> float:
    """Diameter in pixels of the largest disc within the missing region."""
    import cv2

    framed = F.pad(missing.byte(), (1, 1, 1, 1)).numpy()
    return 2.0 * float(cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max()) - 1


def _blur(job: Job, found: Doubts) -> None:
    """Compare the size of the given blur with the spectrum of the image."""
    task = job.task
    if not isinstance(task, Deblur) or isinstance(task, BlindDeblur):
        return
    if job.options.simulate or min(job.measured) < SMALLEST:
        return
    noise = max(job.noise.luma, QUANTISATION / len(job.y) ** 0.5)
    added = None if task.codec is None else task.codec.rounding(job.y) / 255**2
    reading = read_size(job.y.mean(0), task.kernel, noise, added)
    found.checks.update(blur_size=reading.size, blur_evidence=reading.evidence)
    if reading.evidence > WIDER:
        told = "the given blur" if task.blur_sigma is None else f"the given blur of {task.blur_sigma:.3g} pixels"
        size = (
            f"{reading.size:.2g} of this width"
            if task.blur_sigma is None
            else f"{reading.size * task.blur_sigma:.2g} pixels"
        )
        remedy = "a narrower --kernel" if task.blur_sigma is None else "a smaller --blur-sigma"
        found.warnings.append(
            f"{told} is wider than the image shows (about {size}): undoing it amplifies detail and makes rings "
            f"along edges; try {remedy}"
        )


def _downsampling(job: Job, found: Doubts) -> None:
    """Check whether a smoothing filter was given although the spectrum shows no smoothing."""
    task = job.task
    if not isinstance(task, Superres) or task.sampling is None:
        return
    aliased = task.sampling.probabilities["nearest"]
    found.checks["aliased"] = aliased
    if aliased > ALIASED and not task.automatic and task.downsampling != "nearest":
        found.warnings.append(
            f"the image looks aliased, as if pixels had been dropped without smoothing, but --downsampling says "
            f"{task.downsampling}; this sharpens false detail: omit --downsampling, or use nearest if the first pixel "
            "of each block was kept"
        )
