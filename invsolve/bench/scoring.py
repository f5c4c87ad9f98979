"""Score stored restorations in a second pass: a new metric or a new implementation of one needs no new run."""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from invsolve.bench.intervals import check_calibrations, digest_of_calibrations, interval_of_unit
from invsolve.bench.outcomes import Damaged
from invsolve.bench.store import Store
from invsolve.bench.suite import TaskSpec
from invsolve.bench.tasks import Measurement
from invsolve.bench.trust import check_trusted
from invsolve.bench.unit import set_mark
from invsolve.core.checks import InputError
from invsolve.core.context import threads
from invsolve.core.identity import identify
from invsolve.metrics import METRICS, SET_METRICS, Case, Metric, WeightsMissing, image_metric, metric_named
from invsolve.restoration.calibration import Calibration

__all__ = ["load_measurement", "operators_in", "restored", "score"]

logger = logging.getLogger(__name__)


@threads(1)
def score(
    store: Store,
    metrics: Sequence[str] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
    *,
    trust: bool = False,
    calibrations: Sequence[Calibration] = (),
) -> None:
    """Compute every score of the active units that is missing or was computed by another implementation.

    Only successful outcomes are scored, failures never are. A metric whose weights are missing gets a note, and the
    other metrics are computed.

    Args:
        store: a store opened for writing.
        metrics: names of metrics; those of the suite if None. Code named here runs: see `metric_named`.
        report: called with (done, total) after each unit.
        trust: whether operators and metrics may be code that the store names.
        calibrations: calibrations for rows of the suite; their intervals are scored in addition to the metrics.
            Without calibrations, existing scores of intervals stay unchanged.

    Raises:
        InputError: if the store names code that is not trusted, or a calibration is around a point estimate.
    """
    check_calibrations(calibrations)
    names = list(metrics) if metrics is not None else store.meta("description")["metrics"]
    named = [name for name in names if ":" in name] if metrics is None else []  # the caller's own are trusted
    check_trusted(store.folder, [*operators_in(store), *named], trust=trust)
    intervals = [name for name, metric in METRICS.items() if metric.per == "interval"]
    names = [name for name in names if name not in intervals]
    if calibrations:
        names += intervals
        store.add_metrics(intervals)
    loaded: dict[str, Callable[..., Any]] = {}
    for name in names:
        note, metric = "", metric_named(name)
        try:
            loaded[name] = metric.load()
        except (WeightsMissing, InputError) as error:  # a missing file or package does not affect other metrics
            note = str(error)
        store.note("notes", (name, note))
    marks = {name: mark for name, score in loaded.items() if (mark := _mark(name, score, calibrations))}
    waiting = _waiting(store, marks)
    for done, (unit, measurement, missing) in enumerate(waiting.values()):
        try:
            _score_unit(store, unit, measurement, {name: loaded[name] for name in missing}, marks, calibrations)
        except Damaged as error:
            _set_aside(store, unit, measurement, error)
        report(done + 1, len(waiting))
    for name in loaded:
        if name in SET_METRICS:
            _score_sets(store, name, loaded[name])


def operators_in(store: Store) -> list[str]:
    """Return the operators of the store's tasks that are named as code ("module:attribute")."""
    return [row["name"] for row in store.query("operators") if row["name"] and ":" in str(row["name"])]


def _mark(name: str, score: Callable[..., Any], calibrations: Sequence[Calibration]) -> str:
    """Identify the implementation of a metric, with the calibrations of intervals or the identity of a user's code.

    Return "" for a metric of sets.
    """
    metric = image_metric(name)
    if metric is None:
        return ""
    if not metric.package:
        return f"{metric.implementation()} {identify(score, name)[:12]}"
    of = f" by calibration {digest_of_calibrations(calibrations)}" if metric.per == "interval" else ""
    return metric.implementation() + of


def _waiting(store: Store, marks: Mapping[str, str]) -> dict[str, tuple[str, str, list[str]]]:
    """Return the units and their missing metrics, from the implementations of the metrics."""
    waiting: dict[str, tuple[str, str, list[str]]] = {}
    for name, mark in marks.items():
        for row in store.query("unscored", name, mark):
            waiting.setdefault(row["hash"], (row["hash"], row["measurement"], []))[2].append(name)
    return waiting


def load_measurement(store: Store, unit: str, measurement: str) -> Measurement:
    """Load the measurement of a unit.

    Raises:
        Damaged: if its file is missing, has changed, or contains no measurement.
    """
    task = json.loads(store.content(unit))["task"]
    spec = TaskSpec("", task["kind"], task["noise"], task["options"])
    tensors = store.measurement(measurement)
    if not {"truth", "y"} <= tensors.keys():
        raise Damaged(f"{store.measurement_path(measurement)} contains no measurement")
    return Measurement.from_tensors(spec, tensors)


def _set_aside(store: Store, unit: str, measurement: str, error: Damaged) -> None:
    """Set the damaged file aside: the measurement, which is drawn again, or else the outcome."""
    if store.measured(measurement) is not None:
        store.set_aside(unit, error)
    else:
        logger.warning("%s is not scored: %s; `invsolve bench run` draws its measurement again", unit, error)


def restored(store: Store, unit: str, measurement: Measurement) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
    """Return the restored images [S, 3, H, W] of a unit, not clipped, their residuals [S, m] and all its tensors."""
    output = store.output(unit)
    if not {"visible", "samples"} & output.keys():
        raise Damaged(f"{store.output_path(unit)} contains no restoration")
    if "visible" in output:
        images = output["visible"].float()
        whole = images.shape[1:] == tuple(measurement.operator.in_shape) and measurement.unknowns is None
        return images, measurement.residual(images, {}) if whole else None, output
    samples = output["samples"].float()
    theta = {key.removeprefix("theta."): value for key, value in output.items() if key.startswith("theta.")}
    return measurement.visible(samples), measurement.residual(samples, theta), output


def _score_unit(
    store: Store,
    unit: str,
    measurement: str,
    scores: Mapping[str, Callable[..., float]],
    marks: Mapping[str, str],
    calibrations: Sequence[Calibration],
) -> None:
    known = load_measurement(store, unit, measurement)
    with torch.no_grad():
        images, residuals, _ = restored(store, unit, known)
    truth = known.truth.clamp(0, 1)
    cases = [
        Case(image.clamp(0, 1), truth, None if residuals is None else residuals[i]) for i, image in enumerate(images)
    ]
    middle = Case(images.mean(0).clamp(0, 1), truth)
    ends = interval_of_unit(json.loads(store.content(unit)), known, images.clamp(0, 1), calibrations)
    rows = []
    for name, function in scores.items():
        metric = metric_named(name)
        assert isinstance(metric, Metric)
        try:
            if metric.per == "interval":
                each = [] if ends is None else [function(*ends, truth)]
            else:
                # Metrics of calibration use the unclipped ground truth: clipping would make intervals too wide.
                cases_or_truth = cases if metric.per == "image" else [Case(images[0], known.truth)]
                each = metric.values(function, cases_or_truth, images)
            several = metric.per == "image" and len(images) > 1
            mean = _number(function(middle)) if several else None
        except Exception as error:  # a failure of one metric on one image leaves only this score empty
            logger.warning("%s of unit %s is not computed: %s: %s", name, unit, type(error).__name__, error)
            each, mean = [], None
        value = _number(sum(each) / len(each)) if each else None
        rows.append((unit, name, marks[name], value, mean, json.dumps([_number(v) for v in each])))
    store.note("scores", *rows)


def _number(value: float) -> float | None:
    """Convert a value for the database: NaN becomes None, and an infinite PSNR becomes 100 dB."""
    if math.isnan(value):
        return None
    return min(value, 100.0) if math.isinf(value) else value


def _score_sets(store: Store, name: str, features: Callable[[Sequence[Tensor]], Tensor]) -> None:
    """Compute distances between the true images and the first samples of all restorations, for each task and solver."""
    metric, groups = SET_METRICS[name], defaultdict(list)
    for row in store.units():
        groups[row["task"], row["solver"]].append(row)
    cache: dict[str, Tensor] = {}
    keys = ("task", "solver", "metric", "implementation", "of")
    known = {tuple(row[key] for key in keys) for row in store.query("set scores")}
    for (task, solver), rows in groups.items():
        if any(row["status"] != "ok" for row in rows) or len(rows) < metric.least:
            continue
        mark = set_mark([row["hash"] for row in rows])
        if (task, solver, name, metric.implementation(), mark) in known:
            continue
        try:
            value = metric.between(*_features(store, rows, features, cache))
        except Damaged as error:
            logger.warning("%s of %s/%s is not computed: %s", name, task, solver, error)
            continue
        row = (task, solver, name, metric.implementation(), _number(value), len(rows), mark)
        store.note("set_scores", row)


def _features(store: Store, rows: Sequence[Any], features: Any, cache: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the features [n, d] of first samples and of true images; `cache` holds those of the true images."""
    ours, theirs = [], []
    for row in rows:
        measurement = load_measurement(store, row["hash"], row["measurement"])
        with torch.no_grad():
            images, _, _ = restored(store, row["hash"], measurement)
        ours.append(features([images[0].clamp(0, 1)])[0])
        if row["measurement"] not in cache:
            cache[row["measurement"]] = features([measurement.truth.clamp(0, 1)])[0]
        theirs.append(cache[row["measurement"]])
    return torch.stack(ours), torch.stack(theirs)
