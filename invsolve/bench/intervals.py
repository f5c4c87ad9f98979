"""Intervals of a suite's samples by calibration files that `invsolve calibrate` wrote."""

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
    """Refuse what no row of a suite can have.

    Raises:
        InputError: intervals about the point estimate of `restore`, which is no part of a suite.
    """
    for table in calibrations:
        if table.centre != "mean":
            raise InputError(
                f"a calibration of {table.prior} is of intervals about the point estimate, but a suite has samples "
                "alone: make one by invsolve calibrate --solver NAME"
            )


def digest_of_calibrations(calibrations: Sequence[Calibration]) -> str:
    """A short hash of what they hold, which is a part of a score's implementation."""
    return hashlib.sha256(repr(calibrations).encode()).hexdigest()[:12]


def interval_of_unit(
    content: Mapping[str, Any], measurement: Measurement, samples: Tensor, calibrations: Sequence[Calibration]
) -> tuple[Tensor, Tensor] | None:
    """(low, high) [3, H, W] at 90 % about the mean of a unit's samples.

    None for a baseline or a peer, a single sample, a degradation that is not known, or a prior, solver or setting that
    none of the calibrations is of.

    Args:
        content: of the unit: all that decided it.
        measurement: what it restored.
        samples: [S, 3, H, W] in [0, 1].
        calibrations: tables of `invsolve calibrate`, with the mean of the samples as the centre.
    """
    row, task = content["solver"], measurement.task
    if row["method"] != "solver" or len(samples) < 2 or task is None:
        return None
    for table in calibrations:
        if (table.prior, table.solver) != (content["prior"]["name"], row["solver"]):
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
