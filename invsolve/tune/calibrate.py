"""Measure how wide intervals must be, from the errors of restorations with a known ground truth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.bench.suite import TaskSpec
from invsolve.bench.tasks import Measurement, measure, section
from invsolve.core.checks import CapabilityError, InvsolveError
from invsolve.core.driver import solve
from invsolve.core.files import destination
from invsolve.core.prior import Prior
from invsolve.core.solver import Solver
from invsolve.metrics.intervals import ause, interval_score, paired_crps
from invsolve.priors.network import weights_of
from invsolve.priors.traits import traits_of
from invsolve.restoration.calibration import UNRELATED, Calibration, Cell
from invsolve.restoration.choice import chosen
from invsolve.restoration.conformal import LEVELS, PROMISES, blended, groups, quantiles
from invsolve.tasks.blind_deblur import BlindDeblur
from invsolve.tune.case import Case
from invsolve.tune.found_blur import check_sides, found_blur

__all__ = ["BLIND_NOISE", "STANDARD", "Setup", "calibrate", "cell_of", "drawn_cases"]

NOISE = (0.01, 0.05, 0.2)

STANDARD: Sequence[tuple[str, tuple[float, ...], tuple[Mapping[str, Any], ...]]] = (
    ("denoise", (0.01, 0.05, 0.1, 0.2), ({},)),
    ("superres", NOISE, ({"factor": 2}, {"factor": 4})),
    ("superres", (0.01,), ({"factor": 2, "downsampling": "area"}, {"factor": 4, "downsampling": "area"})),
    ("inpaint", NOISE, (*({"missing": p} for p in (0.2, 0.5, 0.8, 0.95)), *({"box": b} for b in (8, 32)))),
    ("deblur", NOISE, ({"std": 1.0}, {"std": 3.0}, {"length": 9.0}, {"length": 25.0})),
    ("jpeg", (UNRELATED,), ({"compression": 10}, {"compression": 30}, {"compression": 75})),
)
"""The default calibration: tasks, noise levels, and the options of the tasks in a suite."""

BLIND_NOISE = (0.005, 0.02)
"""Noise levels for calibrating blind deblurring, which needs larger photographs and so has its own table."""

LEVEL = 0.9
"""The level of the intervals that are reported."""

FUNCTIONALS = 48
"""Number of box means and pixel differences evaluated on each image."""

BOXES = (2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Setup:
    """The prior and the sampler to calibrate.

    Args:
        prior: the prior.
        name: the name of the prior.
        solver: the name of the sampler. If None, it is chosen automatically, and a point estimate can be the centre.
        settings: settings of the sampler.
        samples: number of samples for each image.
        seed: seed of the measurements and samples.
        antithetic: draw the samples in antithetic pairs, as `restore` does; else independent ones, as suites do.
    """

    prior: Prior
    name: str
    solver: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 6
    seed: int = 0
    antithetic: bool = True

    def solvers(self, spec: TaskSpec, measured: Measurement | None = None) -> tuple[Solver, Solver | None]:
        """Return the sampler and the solver of the point estimate, chosen as in `restore`."""
        part, traits = section(spec), traits_of(self.prior)
        common: dict[str, Any] = {"noise": spec.noise}
        if measured is not None and measured.task is not None:
            common = {"noise": measured.noise, "conditions": measured.task.conditions}
        sampler = chosen(part, traits, solver=self.solver, sampling=True, changes=self.settings, **common).solver
        if sampler.deterministic:
            raise CapabilityError(f"{sampler.name} draws no samples: give a sampler, or omit --solver")
        return sampler, chosen(part, traits, **common).solver if self.has_point else None

    @property
    def has_point(self) -> bool:
        """Whether the centre of the intervals is a point estimate rather than the mean of the samples."""
        return self.solver is None and traits_of(self.prior).scope == "local"


def drawn_cases(setup: Setup, spec: TaskSpec, images: Tensor) -> Iterator[Case]:
    """Degrade and restore each image [n, 3, H, W]; for unknown blurs, only the images whose blur is found.

    Raises:
        CapabilityError: if the degradation is unknown and not a blur, or the solver draws no samples.
        InputError: if the images are too small for an unknown blur.
        InvsolveError: if a restoration is not finite.
    """
    if spec.kind == BlindDeblur.name:
        yield from _found_blurs(setup, spec, images)
        return
    for image in images:
        digest = hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()[:16]
        yield _case(setup, spec, measure(spec, image, digest, setup.seed))


def _case(setup: Setup, spec: TaskSpec, measured: Measurement) -> Case:
    task = measured.task
    sampler, point = setup.solvers(spec, measured)
    if task is None or task.unknowns is not None or task.estimates_kernel:
        raise CapabilityError("intervals are calibrated for restoration tasks whose degradation is known")
    problem = measured.problem(setup.prior)
    found = solve(problem, sampler, samples=setup.samples, seed=setup.seed, antithetic=setup.antithetic)
    samples = measured.visible(found.samples[0]).float().clamp(0, 1)
    centre, seconds = samples.mean(0), 0.0
    if point is not None:
        estimate = solve(problem, point, seed=setup.seed)
        centre, seconds = measured.visible(estimate.samples[0])[0].float().clamp(0, 1), estimate.stats.seconds
    if not bool(torch.isfinite(samples).all() and torch.isfinite(centre).all()):
        raise InvsolveError(f"a restoration by {sampler.name} is not finite: choose other settings")
    known = task.known(measured.y)
    if known is not None and known.shape != centre.shape[1:]:
        known = None
    return Case(centre, samples, measured.truth, *task.severity, known, (found.stats.seconds, seconds))


def _found_blurs(setup: Setup, spec: TaskSpec, images: Tensor) -> Iterator[Case]:
    """Blur photographs with random kernels that `restore` estimates; the options of the task are ignored."""
    check_sides(images)
    told: dict[str, Any] = {"samples": setup.samples, "solver": setup.solver, "settings": setup.settings}
    for number, image in enumerate(images):
        found = found_blur(image, spec.noise, setup.seed + number, prior=setup.prior, **told)
        if found is not None:
            yield found


def cell_of(cases: Sequence[Case], noise: float, seed: int = 0) -> Cell:
    """Compute the table entry for the cases of one degradation."""
    severity = sum(case.severity for case in cases) / len(cases)
    scores = [_scores(case) for case in cases]
    average, image = quantiles(scores)
    functional, _ = quantiles([{"all": _functional(case, seed)} for case in cases])
    return Cell(
        kind=max({case.kind for case in cases}, key=[case.kind for case in cases].count),
        severity=float(f"{severity:.3g}"),
        noise=noise,
        images=len(cases),
        average={name: _short(q) for name, q in average.items()},
        image={name: _short(q) for name, q in image.items()},
        functional=_short(functional["all"]),
        measured=_measured(cases, scores),
    )


def _scores(case: Case) -> dict[str, Tensor]:
    """Compute |truth - centre| / s for each group of pixels."""
    score = case.error / case.scale
    return {name: score[:, where] for name, where in groups(case.centre, case.known).items() if bool(where.any())}


def _functional(case: Case, seed: int) -> Tensor:
    """Compute |f(truth) - f(centre)| / (sd of f over the samples) for box means and pixel differences f."""
    draw = torch.Generator().manual_seed(seed)
    _, height, width = case.truth.shape
    scores = []

    def below(n: int) -> int:
        return int(torch.randint(0, max(1, n), (1,), generator=draw))

    def add(function: Callable[[Tensor], Tensor]) -> None:
        values = torch.stack([function(sample) for sample in case.samples]).double()
        error = (function(case.truth) - function(case.centre)).abs().double()
        scores.append(error / values.std().clamp_min(1e-9))

    for k in range(FUNCTIONALS // 2):
        side = min(BOXES[k % len(BOXES)], height, width)
        top, left = below(height - side + 1), below(width - side + 1)
        add(lambda x, t=top, s=left, n=side: x[:, t : t + n, s : s + n].mean())
        a, b, c, d = below(height), below(width), below(height), below(width)
        channel = below(len(case.truth))
        add(lambda x, i=channel, a=a, b=b, c=c, d=d: x[i, a, b] - x[i, c, d])
    return torch.stack(scores)


def _measured(cases: Sequence[Case], scores: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
    """Measure the intervals of each image with q computed from the other images (leave-one-out)."""
    place = LEVELS.index(LEVEL)
    rows: dict[str, list[float]] = {}
    count = len(cases)
    for i, case in enumerate(cases):
        scale = case.scale
        spread: dict[str, Tensor] = {}
        others = [row for j, row in enumerate(scores) if j != i or count == 1]
        for promise, q in zip(PROMISES, quantiles(others), strict=True):
            most = max(row[place] for row in q.values())
            own = {name: q[name][place] if name in q else most for name in groups(case.centre, case.known)}
            spread[promise] = blended(own, case.centre, case.known) * scale
        low, high = case.centre - spread["average"], case.centre + spread["average"]
        values = {
            "coverage": float((case.error <= spread["average"]).double().mean()),
            "image_coverage": float((case.error <= spread["image"]).double().mean()),
            "width": float((high.clamp(0, 1) - low.clamp(0, 1)).mean()),
            "interval_score": interval_score(low.clamp(0, 1), high.clamp(0, 1), case.truth, LEVEL),
            "crps": paired_crps(case.samples, case.truth),
            "ause": ause(case.error, scale),
        }
        for name, value in values.items():
            rows.setdefault(name, []).append(value)
    means = {name: float(f"{sum(values) / count:.4g}") for name, values in rows.items()}
    kept = sum(value >= LEVEL for value in rows.pop("image_coverage")) / count
    del means["image_coverage"]
    per_image = [float(f"{value:.3f}") for value in rows["coverage"]]
    return {**means, "worst": min(per_image), "images_kept": float(f"{kept:.3g}"), "coverages": per_image}


def calibrate(
    setup: Setup, specs: Sequence[TaskSpec], images: Tensor, path: Path, report: Callable[[Cell], None]
) -> Calibration:
    """Measure every degradation and write the table after each one; entries that `path` already contains are kept.

    Several processes may measure different degradations for one file at the same time.

    Args:
        setup: the prior and the sampler to calibrate.
        specs: the degradations.
        images: photographs [n, 3, H, W] in [0, 1].
        path: the JSON file of the table.
        report: called with every new entry.

    Raises:
        InputError: if the images are too small for an unknown blur; raised before anything is measured.
        CapabilityError: if independent samples are asked for an unknown blur; raised before anything is measured.
        InvsolveError: if `path` holds the table of another setup, or no blur was found.
    """
    if any(spec.kind == BlindDeblur.name for spec in specs):
        if not setup.antithetic:
            raise CapabilityError("an unknown blur is calibrated with the antithetic samples of `restore`")
        check_sides(images)
    digest = hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()[:16]
    photographs = {"count": len(images), "size": images.shape[-1], "digest": digest}
    centre = "point" if setup.has_point else "mean"
    empty = Calibration(
        setup.name, setup.solver or "", setup.settings, setup.samples, centre, photographs, (),
        weights_of(setup.prior), setup.antithetic,
    )  # fmt: skip
    table = _present(path, empty)
    for spec in specs:
        table, words = _present(path, empty), _words(spec)
        if _has(table, words, spec.noise):
            continue
        cases = list(drawn_cases(setup, spec, images))
        if not cases:
            raise InvsolveError("the blur was not found in any image: use more, or more detailed ones")
        cell = cell_of(cases, spec.noise, setup.seed)
        cell = replace(cell, measured={"task": words, **cell.measured})
        table = _with_cell(path, empty, cell)
        report(cell)
    return table


def _present(path: Path, empty: Calibration) -> Calibration:
    """Return the table in a file, or the empty one if there is none."""
    table = Calibration.read(path) if path.is_file() else empty
    if replace(table, cells=()) != empty:
        raise InvsolveError(f"{path} is a calibration of something else: name another file")
    return table


def _has(table: Calibration, words: str, noise: float) -> bool:
    return any((cell.measured.get("task"), cell.noise) == (words, noise) for cell in table.cells)


def _with_cell(path: Path, empty: Calibration, cell: Cell) -> Calibration:
    """Add an entry to the table in a file, which another process may have changed since it was read."""
    from filelock import FileLock

    target = destination(path)
    with FileLock(target.with_name(f".{target.name}.lock")):
        table = _present(path, empty)
        if not _has(table, cell.measured["task"], cell.noise):
            table = replace(table, cells=(*table.cells, cell))
            table.write(path)
    return table


def _words(spec: TaskSpec) -> str:
    return " ".join([spec.kind, *(f"{name}={value}" for name, value in spec.options.items())])


def _short(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)
