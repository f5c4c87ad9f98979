"""Intervals for the samples of a suite, from calibration files written by `invsolve calibrate`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from invsolve.bench.reading import settings_for
from invsolve.bench.suite import canonical
from invsolve.bench.tasks import Measurement
from invsolve.core.checks import InputError
from invsolve.restoration.calibration import Calibration
from invsolve.restoration.uncertainty import Uncertainty

__all__ = ["check_calibrations", "digest_of_calibrations", "interval_of_unit"]

LEVEL = 0.9


def check_calibrations(calibrations: Sequence[Calibration]) -> None:
    """Check that calibrations can apply to rows of a suite.

    Raises:
        InputError: for intervals around the point estimate of `restore`, which is not part of a suite, or for samples
            in antithetic pairs, whose mean has a smaller error than that of a suite's independent samples.
    """
    for table in calibrations:
        if table.centre != "mean":
            raise InputError(
                f"the calibration of {table.prior} is for intervals around the point estimate, but a suite has only "
                "samples: create one for samples with invsolve calibrate --solver NAME --independent"
            )
        if table.antithetic:
            raise InputError(
                f"the calibration of {table.prior} is for samples in antithetic pairs, but a suite draws independent "
                "samples, whose mean errs more: create one for them with invsolve calibrate --solver NAME --independent"
            )


def digest_of_calibrations(calibrations: Sequence[Calibration]) -> str:
    """Return a short hash of their content, which becomes part of the implementation of a score."""
    return hashlib.sha256(repr(calibrations).encode()).hexdigest()[:12]


def interval_of_unit(
    content: Mapping[str, Any], measurement: Measurement, samples: Tensor, calibrations: Sequence[Calibration]
) -> tuple[Tensor, Tensor] | None:
    """Return the 90 % interval (low, high), [3, H, W] each, around the mean of the samples of a unit.

    Return None for a baseline or a peer, a single sample, an unknown degradation, or if no calibration of independent
    samples has the same prior, solver and settings.

    Args:
        content: the content of the unit.
        measurement: the measurement of the unit.
        samples: [S, 3, H, W] in [0, 1].
        calibrations: tables of `invsolve calibrate`, with the mean of the samples as the centre.
    """
    row, task = content["solver"], measurement.task
    if row["method"] != "solver" or len(samples) < 2 or task is None:
        return None
    for table in calibrations:
        if table.antithetic or (table.prior, table.solver) != (content["prior"]["name"], row["solver"]):
            continue
        told = settings_for("the calibration", table.solver, "restore", table.prior, measurement.spec, table.settings)
        if canonical(told) == canonical(row["settings"]):
            kind, severity = task.severity
            known = task.known(measurement.y)
            if known is not None and known.shape != samples.shape[2:]:
                known = None
            noise = measurement.spec.noise
            centre = samples.mean(0)
            return Uncertainty(centre, samples, kind, severity, noise, known, table, "calibration").interval(LEVEL)
    return None
