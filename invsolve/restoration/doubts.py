"""Whether a restoration can be trusted: what was told is compared with the image, and the result with both.

Thresholds were set on training photographs, for fewer than 1 warning in 20 right runs: `python -m benchmarks.doubts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.io.jpeg import unturned
from invsolve.noise.estimate import noise_of
from invsolve.noise.tiles import MIN_SIDE, tiles_of
from invsolve.noise.white import QUANTISATION
from invsolve.restoration.job import Job
from invsolve.restoration.spectrum import read_blur, read_kernel
from invsolve.tasks.blind_deblur import BlindDeblur
from invsolve.tasks.deblur import Deblur
from invsolve.tasks.jpeg_codec import expected_error, find_tables

__all__ = ["Doubts", "doubts_of"]

HOLE = 36
"""Width in pixels from which the middle of a hole is out of reach of a prior of local detail."""

NOISE_RATIO, NOISE_FLOOR = 2.0, 0.006
"""By what factor the noise that was told may differ from what the image shows; levels below the second are one."""

CODEC = 2.0
"""How many times the noise may be exceeded by what the file's compression took."""

OUTSIDE, FAR_OUTSIDE = 0.005, 0.25
"""Which share of the values lies how far outside [0, 1] in a result that failed."""

MISFIT, STRUCTURED, MISFIT_FAILED = 1.2, 0.2, 3.0
"""Residual in units of the noise, and the correlation of its neighbours, of a wrong operator; and of a failure."""

SHARE, CLEARLY, SUSPECT = 0.78, 2.2, 0.9
"""Share of a Gaussian blur that an image shows where it was told too wide, and by how many standard errors below 1;
and the share below which that is so if the residual's neighbours resemble each other.
"""

FOUND, AGREEMENT = (0.4, 1.5), 0.92
"""Share of a found blur that the spectrum shows, and the correlation of the kernel from edges with that of the prior:
a blur was not found where neither holds, or where the residual is structured."""

NOISIER = 1.4
"""Residual in units of the estimated noise where that is too small, if neighbours do not resemble each other."""

_SMALLEST = 32


@dataclass(frozen=True)
class Doubts:
    """What was found.

    Attributes:
        warnings: sentences that say what does not hold, and what to do.
        failures: sentences for the status of a result that is no restoration.
        checks: the numbers behind them.
        nothing_found: whether a blur was looked for and not found, so that the image is returned as it came.
    """

    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    checks: dict[str, float] = field(default_factory=dict)
    nothing_found: bool = False


def doubts_of(job: Job, drawn: Tensor, theta: Mapping[str, Tensor]) -> Doubts:
    """The doubts about a finished restoration.

    Args:
        job: what was done.
        drawn: estimates [S, C, H, W] of the solver's image, as many channels as the measurement, not clipped.
        theta: parameters of the operator for each of them.
    """
    found = Doubts()
    _told_noise(job, found)
    _compression(job, found)
    _wide_hole(job, found)
    _residual(job, drawn, theta, found)
    _told_blur(job, found)
    found = _found_blur(job, found)
    _range(drawn, found)
    return found


def _told_noise(job: Job, found: Doubts) -> None:
    """The noise that was told against what the image shows."""
    known = job.task.known(job.y)
    if job.noise.method != "given" or job.options.simulate or min(job.measured) < MIN_SIDE:
        return
    if not len(tiles_of(job.y, known)):  # no part is whole enough to be read
        return
    read = noise_of(job.y if known is not None else job.task.noise_sample(job.y), known)
    told, seen = max(job.noise.sigma, NOISE_FLOOR), max(read.sigma, NOISE_FLOOR)
    found.checks["noise_seen"] = read.sigma
    if not read.sure:
        return
    if told > NOISE_RATIO * max(read.high, NOISE_FLOOR):
        found.warnings.append(
            f"the noise told, {job.noise.sigma:.3g}, is {told / seen:.1f} times what the image shows, "
            f"{read.sigma:.3g}: fine detail is taken for noise; leave --noise away to have it estimated"
        )
    if told * NOISE_RATIO < read.low:
        found.warnings.append(
            f"the noise told, {job.noise.sigma:.3g}, is less than the image shows, {read.sigma:.3g}: noise is taken "
            "for detail and kept or amplified; leave --noise away to have it estimated"
        )


def _compression(job: Job, found: Doubts) -> None:
    """What the file's compression took against the noise that the solver was told."""
    if job.task.name == "jpeg" or job.options.simulate or min(job.measured) < _SMALLEST:
        return
    tables = job.image.jpeg or find_tables(job.y)
    if tables is None or (tables.chroma is not None and len(job.y) != 3):
        return
    taken = expected_error(unturned(job.y, tables.orientation), tables)
    found.checks["compression"] = taken
    if taken <= CODEC * job.noise.sigma:
        return
    remedy = "--task jpeg removes them" if job.task.name == "denoise" else "run --task jpeg first, or give --noise"
    remedy += "" if job.task.name == "denoise" else f" {taken:.2g}"
    found.warnings.append(
        f"JPEG compression (quality {tables.quality}) took about {taken:.2g} from this image, more than the noise of "
        f"{job.noise.sigma:.2g} that was assumed, so that its blocks are taken for detail: {remedy}"
    )


def _wide_hole(job: Job, found: Doubts) -> None:
    """The widest hole against what a prior of local detail can fill."""
    known = job.task.known(job.y)
    if known is None or bool(known.all()):
        return
    width = _widest(~known)
    found.checks["hole"] = width
    if job.traits.scope == "local" and width >= HOLE:
        found.warnings.append(
            f"a hole is {width:.0f} pixels wide; this prior knows detail, not objects, so that the middle of a hole of "
            f"more than {HOLE} is a smooth guess: give a prior of whole images (--prior), or make the image smaller"
        )


def _widest(missing: Tensor) -> float:
    """Diameter in pixels of the largest disc within what is missing."""
    import cv2

    framed = F.pad(missing.byte(), (1, 1, 1, 1)).numpy()
    return 2.0 * float(cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max()) - 1


def _told_blur(job: Job, found: Doubts) -> None:
    """The width of a Gaussian blur as told against the image's spectrum."""
    sigma = job.task.blur_sigma if isinstance(job.task, Deblur) else None
    if sigma is None or job.options.simulate or min(job.measured) < _SMALLEST:
        return
    noise = max(job.noise.luma, QUANTISATION / len(job.y) ** 0.5)
    reading = read_blur(job.y.mean(0), sigma, noise)
    found.checks.update(blur_share=reading.share, blur_share_error=reading.error)
    clearly = reading.share < SHARE and 1 - reading.share > CLEARLY * max(reading.error, 0.05)
    if clearly or (reading.share < SUSPECT and found.checks["structure"] > 0):
        width = sigma * max(reading.share, 0.0) ** 0.5
        found.warnings.append(
            f"the blur told, {sigma:.3g} pixels, is wider than the image shows, about {width:.2g}: undoing it "
            "amplifies detail and makes rings along edges; try a smaller --blur-sigma"
        )


def _found_blur(job: Job, found: Doubts) -> Doubts:
    """A blur that was looked for: two estimates of it against each other, and the last against the spectrum."""
    task = job.task
    if not isinstance(task, BlindDeblur) or task.first_kernel is None or min(job.measured) < _SMALLEST:
        return found
    noise = max(job.noise.luma, QUANTISATION / len(job.y) ** 0.5)
    share = read_kernel(job.y.mean(0), task.kernel, noise).share
    agreement = _agreement(task.first_kernel, task.kernel)
    found.checks.update(blur_share=share, kernel_agreement=agreement)
    shown, agreed = FOUND[0] <= share <= FOUND[1], agreement > AGREEMENT
    if (shown or agreed) and found.checks["structure"] <= STRUCTURED:
        return found
    found.warnings.append(
        "the blur was not found (two estimates of it disagree and the spectrum does not show it, or the residual has "
        "structure), and the image is returned as it came: try another --kernel-size, a little larger than the blur, a "
        "larger image, or measure the blur and use --task deblur --kernel"
    )
    return replace(found, nothing_found=True)


def _agreement(a: Tensor, b: Tensor) -> float:
    """Normalised correlation of two kernels of one size at the best shift."""
    side = 2 * max(a.shape) - 1
    spectra = [torch.fft.rfft2(kernel.double(), (side, side)) for kernel in (a, b)]
    products = torch.fft.irfft2(spectra[0] * spectra[1].conj(), (side, side))
    return float(products.max() / (a.double().norm() * b.double().norm()))


def _residual(job: Job, drawn: Tensor, theta: Mapping[str, Tensor], found: Doubts) -> None:
    """What the result leaves unexplained: how much, whether it has structure, and against the input itself."""
    task, y = job.task, job.y
    operator, measured = task.operator(len(y), job.measured), job.measurement(y, len(y))
    known = task.known(y)
    estimate = drawn.mean(0, keepdim=True)
    left = measured - operator(estimate, {name: value.mean(0, keepdim=True) for name, value in theta.items()})[0]
    misfit = _rms(left, known) / job.sigma
    found.checks["misfit"] = misfit
    images = left.ndim == 3 and known is None
    structure = _structure(left.mean(0)) if images else 0.0
    if images:
        found.checks["structure"] = structure
    before = _misfit_of_input(job, theta)
    if before is not None:
        found.checks["misfit_of_input"] = before
    if before is not None and misfit > max(MISFIT_FAILED, before):
        found.failures.append(
            f"failed: the result explains the image worse than the image itself does ({misfit:.3g} times the noise, "
            f"{before:.3g} without restoration): use the default solver, or other settings"
        )
    elif misfit > MISFIT and structure > STRUCTURED:
        found.warnings.append(_unexplained(job, misfit))
    elif misfit > NOISIER and job.noise.method not in ("given", "task"):
        found.warnings.append(
            f"what the result leaves unexplained is {misfit:.2g} times the noise that was estimated: there is more "
            f"of it; try --noise {misfit * job.noise.sigma:.2g}"
        )


def _unexplained(job: Job, misfit: float) -> str:
    left = f"what the result leaves unexplained is {misfit:.2g} times the noise and has structure"
    if job.task.name == "deblur":
        return (
            f"{left}: the blur is probably not the one that was told; try a smaller --blur-sigma, or another --kernel"
        )
    if job.task.estimates_kernel:
        return f"{left}: the blur that was found is probably wrong; try another --kernel-size, or a part of the image"
    return f"{left}: the image was probably not degraded as this task assumes"


def _misfit_of_input(job: Job, theta: Mapping[str, Tensor]) -> float | None:
    """Residual of the image as it came, in units of the noise; None where it is no image of the solver's size."""
    task, y = job.task, job.y
    if task.name in ("jpeg", "demosaic"):
        return None
    operator = task.operator(len(y), job.measured)
    _, height, width = operator.in_shape
    image = task.baseline(y)[1]
    places = torch.arange(height * width).view(1, height, width)
    shown = task.visible(places, job.measured)[0]
    upright = torch.equal(shown, shown[0, 0] + places[0, : shown.shape[0], : shown.shape[1]])
    if tuple(shown.shape) != tuple(image.shape[1:]) or not upright:
        return None
    top, left = divmod(int(shown[0, 0]), width)
    frame = (left, width - left - shown.shape[1], top, height - top - shown.shape[0])
    scene = F.pad(image[None].float(), frame, mode="replicate")
    scene = scene if job.stabiliser is None else job.stabiliser(scene)
    rest = job.measurement(y, len(y)) - operator(scene, {k: v.mean(0, keepdim=True) for k, v in theta.items()})[0]
    return _rms(rest, task.known(y)) / job.sigma


def _range(drawn: Tensor, found: Doubts) -> None:
    """Values that no image has."""
    beyond = (drawn - drawn.clamp(0, 1)).abs()
    share = float((beyond > FAR_OUTSIDE).float().mean())
    found.checks["outside"] = share
    if share > OUTSIDE:
        low, high = float(drawn.min()), float(drawn.max())
        found.failures.append(
            f"failed: {100 * share:.2g} % of the values lie far outside [0, 1] (from {low:.3g} to {high:.3g}): use the "
            "default solver, or other settings"
        )


def _rms(rest: Tensor, known: Tensor | None) -> float:
    kept = rest if known is None else rest[..., known]
    return float(kept.double().abs().square().mean().sqrt())


def _structure(rest: Tensor) -> float:
    """Correlation of neighbours [H, W]: 0 of white noise."""
    rest = rest.double() - rest.double().mean()
    power = float(rest.square().mean())
    if power == 0 or min(rest.shape) < 2:
        return 0.0
    return float((rest[1:] * rest[:-1]).mean() + (rest[:, 1:] * rest[:, :-1]).mean()) / 2 / power
