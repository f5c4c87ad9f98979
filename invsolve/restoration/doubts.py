"""Check whether a restoration can be trusted.

The given information is compared with the image (`told`), and the result with both. The thresholds were set on training
photographs, so that fewer than 1 in 20 correct runs gets a warning: `python -m benchmarks.doubts`. The thresholds for
an estimated blur come from `python -m benchmarks.blind run DIR --photos FOLDER`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.restoration.job import Job
from invsolve.restoration.told import SMALLEST, Doubts, compare_with_image
from invsolve.tasks.blind_deblur import BlindDeblur
from invsolve.tasks.compressed import Compressed

__all__ = ["doubts_of"]

OUTSIDE, FAR_OUTSIDE = 0.005, 0.25
"""A result has failed if a share above OUTSIDE of its values is more than FAR_OUTSIDE away from [0, 1]."""

MISFIT, STRUCTURED, MISFIT_FAILED = 1.2, 0.2, 3.0
"""Residual in units of the noise, and correlation of neighbouring residuals, that indicate a wrong operator; and the
residual of a failure."""

AGREEMENT, SHOWN, FOUND, SURE = 0.4, 0.1, 0.64, 0.8
"""A blur counts as found if agreement >= AGREEMENT and agreement + SHOWN log2(r) >= FOUND; below SURE, a warning is
given. The agreement is the correlation of two kernels: one estimated from edges, one from image and prior together. r
is the residual of the input in units of the noise: how clearly the image shows the blur."""

CUT_OFF = 0.03
"""Share of a kernel in its outermost pixels above which the blur may extend beyond the frame."""

NOISIER = 1.4
"""Residual in units of the noise above which the noise estimate is too small, if neighbours are not correlated."""


def doubts_of(job: Job, drawn: Tensor, theta: Mapping[str, Tensor], point: Tensor | None = None) -> Doubts:
    """Return the doubts about a finished restoration.

    Args:
        job: the job that was run.
        drawn: estimates [S, C, H, W] of the solver's image, with the channels of the measurement, not clipped.
        theta: parameters of the operator for each estimate.
        point: the point estimate [1, C, H, W] if it was computed beside the samples.
    """
    found = Doubts()
    compare_with_image(job, found)
    _residual(job, drawn, theta, found)
    found = _found_blur(job, found)
    _range(job, drawn if point is None else torch.cat([drawn, point]), found)
    return found


def _found_blur(job: Job, found: Doubts) -> Doubts:
    """Check an estimated blur: whether two estimates agree, and how clearly the image shows the blur."""
    task = job.task
    if not isinstance(task, BlindDeblur) or task.second_kernel is None or min(job.measured) < SMALLEST:
        return found
    agreement = _agreement(task.kernel, task.second_kernel)
    shown = found.checks.get("misfit_of_input") or 1.0
    found.checks["kernel_agreement"] = agreement
    found.checks["kernel_at_border"] = at_border = 1 - float(task.kernel[1:-1, 1:-1].sum() / task.kernel.sum())
    evidence = agreement + SHOWN * math.log2(shown)
    if agreement >= AGREEMENT and evidence >= FOUND:
        if at_border > CUT_OFF:
            found.warnings.append(
                f"the blur that was found fills its frame of {len(task.kernel)} pixels and may be wider: try a larger "
                "--kernel-size, and compare the restored image with the input"
            )
        elif evidence < SURE:
            found.warnings.append(
                "the blur that was found is uncertain, because a second estimate of it differs: compare the restored "
                "image with the input, and look at the kernel; a larger image or another --kernel-size may help"
            )
        return found
    bare = "" if job.options.samples is None else ", without samples"
    found.warnings.append(
        "the blur was not found (two estimates of it disagree, or the image hardly shows it), so the image is "
        f"returned unchanged{bare}: try another --kernel-size (a little larger than the blur) or a larger image, or "
        "measure the blur and use --task deblur --kernel"
    )
    return replace(found, nothing_found=True)


def _agreement(a: Tensor, b: Tensor) -> float:
    """Normalised correlation of two kernels of equal size at the best shift."""
    side = 2 * max(a.shape) - 1
    spectra = [torch.fft.rfft2(kernel.double(), (side, side)) for kernel in (a, b)]
    products = torch.fft.irfft2(spectra[0] * spectra[1].conj(), (side, side))
    return float(products.max() / (a.double().norm() * b.double().norm()))


def _residual(job: Job, drawn: Tensor, theta: Mapping[str, Tensor], found: Doubts) -> None:
    """Check the residual: its size, its structure, and whether it is larger than the residual of the input."""
    task, y = job.task, job.y
    operator, measured = task.operator(len(y), job.measured), job.measurement(y, len(y))
    known = task.known(y)
    estimate = drawn.mean(0, keepdim=True)
    left = measured - operator(estimate, {name: value.mean(0, keepdim=True) for name, value in theta.items()})[0]
    misfit = _rms(left, known) / job.sigma
    found.checks["misfit"] = misfit
    rest = left if not isinstance(operator, Compressed) else y - operator.inner(estimate)[0]
    images = rest.ndim == 3 and known is None
    structure = _structure(rest.mean(0)) if images else 0.0
    if images:
        found.checks["structure"] = structure
    before = _misfit_of_input(job, theta)
    if before is not None:
        found.checks["misfit_of_input"] = before
    if before is not None and misfit > max(MISFIT_FAILED, before):
        found.failures.append(
            f"failed: the result explains the image worse than the unrestored image does (residual {misfit:.3g} times "
            f"the noise, {before:.3g} without restoration): use the default solver, or other settings"
        )
    elif misfit > MISFIT and structure > STRUCTURED:
        found.warnings.append(_unexplained(job, misfit))
    elif misfit > NOISIER and job.noise.method not in ("given", "task"):
        found.warnings.append(
            f"the residual is {misfit:.2g} times the estimated noise: the image is noisier than estimated; "
            f"try --noise {misfit * job.noise.sigma:.2g}"
        )


def _unexplained(job: Job, misfit: float) -> str:
    left = f"the residual is {misfit:.2g} times the noise and has structure"
    if job.task.name == "deblur":
        return f"{left}: the blur is probably not the one you gave; try a smaller --blur-sigma, or another --kernel"
    if job.task.estimates_kernel:
        return f"{left}: the blur that was found is probably wrong; try another --kernel-size, or a part of the image"
    return f"{left}: the image was probably not degraded as this task assumes"


def _misfit_of_input(job: Job, theta: Mapping[str, Tensor]) -> float | None:
    """Residual of the unrestored image in units of the noise; None if it is not an image of the solver's size."""
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
    scene = scene if job.stabiliser is None else job.stabiliser.encode(scene)
    rest = job.measurement(y, len(y)) - operator(scene, {k: v.mean(0, keepdim=True) for k, v in theta.items()})[0]
    return _rms(rest, task.known(y)) / job.sigma


def _range(job: Job, drawn: Tensor, found: Doubts) -> None:
    """Check for values far outside [0, 1], or outside the values of an image with highlights."""
    low, high = (float(job.y.min()), float(job.y.max())) if "beyond" in found.checks else (0.0, 1.0)
    beyond = (drawn - drawn.clamp(min(low, 0.0), max(high, 1.0))).abs()
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
    """Correlation of neighbouring pixels in [H, W]; 0 for white noise."""
    rest = rest.double() - rest.double().mean()
    power = float(rest.square().mean())
    if power == 0 or min(rest.shape) < 2:
        return 0.0
    return float((rest[1:] * rest[:-1]).mean() + (rest[:, 1:] * rest[:, :-1]).mean()) / 2 / power
