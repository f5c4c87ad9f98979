"""The search: Optuna proposes settings, each is judged image by image, hopeless ones are stopped early."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from invsolve.bench.suite import canonical
from invsolve.bench.tasks import measure
from invsolve.core.checks import InputError, InvsolveError, nearest
from invsolve.core.driver import solve
from invsolve.core.prior import Prior
from invsolve.metrics import METRICS, Case
from invsolve.priors.traits import traits_of
from invsolve.restoration.choice import row
from invsolve.solvers import SOLVERS
from invsolve.tune.calibrate import weights_of
from invsolve.tune.spaces import SPACES, inside
from invsolve.tune.tasks import Sections, sections

__all__ = ["NoCandidate", "Search", "Trial", "tune"]

MARGIN, PENALTY, TOLERANCE = 0.03, 2.0, 0.1


REASON = "reason"
"""The attribute of a stopped trial that says why it could not run."""


class NoCandidate(InputError):
    """No settings of a solver ran to their end."""


@dataclass(frozen=True)
class Trial:
    """What one candidate reached on all images.

    Attributes:
        settings: all that were given to the solver.
        values: of the metrics, in their order; for PSNR of a sampler less the penalty on the misfit.
        psnr: mean in dB, without any penalty.
        misfit: rms of y - A x in units of the noise, geometric mean over images.
        calls: network forwards and twice the backwards of one estimate.
    """

    settings: dict[str, Any]
    values: tuple[float, ...]
    psnr: float
    misfit: float
    calls: float


@dataclass(frozen=True, eq=False)
class Search:
    """What is fixed in a search.

    Attributes:
        prior, prior_name: whose preset table is the start.
        images: [n, 3, s, s], see `crops`.
        storage: an SQLite file from which an interrupted search goes on.
        metrics: the first decides; with several, Optuna keeps their Pareto front and nothing is stopped early. "calls"
            is one of them.
        trials: candidates of a solver and task, those of earlier sessions included.
        seconds: of a solver and task in this session; no limit if None.
        seed: of the proposals.
        sections: what each section of the preset table is tuned on.
    """

    prior: Prior
    prior_name: str
    images: Tensor
    storage: Path
    metrics: tuple[str, ...] = ("psnr",)
    trials: int = 30
    seconds: float | None = None
    seed: int = 0
    sections: Sections = field(default_factory=sections)

    def __post_init__(self) -> None:
        known = [*(name for name, metric in METRICS.items() if metric.per == "image"), "calls"]
        for name in self.metrics:
            if name not in known:
                raise InputError(f"unknown metric {name!r} for tuning; {nearest(name, known)}")

    @property
    def digest(self) -> str:
        """A hash of the images."""
        return hashlib.sha256(self.images.numpy().tobytes()).hexdigest()[:16]

    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """Of the metrics, in Optuna's words; targets are searched by their distance."""
        return ["maximize" if n != "calls" and METRICS[n].better == "high" else "minimize" for n in self.metrics]


def tune(search: Search, solver: str, section: str, report: Callable[[Trial], None] = lambda trial: None) -> Trial:
    """The best candidate for a solver on a section of the preset table.

    The present table's settings come first, then Optuna's (TPE; Bergstra et al. 2011). After each image a candidate
    that is worse than the median of the earlier ones at that image is stopped. Of the candidates within 0.03 dB of
    the best, the one with the fewest network calls is returned. PSNR of a sampler loses 2 dB for each factor of two by
    which the rms misfit of the data misses the noise, beyond a tolerance of 0.1.

    Args:
        search: what is fixed.
        solver: a name of `spaces.SPACES`.
        section: of `search.sections`.
        report: told every candidate that was judged on all images.

    Raises:
        InputError: an unknown solver or section; Optuna is not installed; no candidate ran to its end.
    """
    for name, known, what in ((solver, SPACES, "solver to tune"), (section, search.sections, "task to tune")):
        if name not in known:
            raise InputError(f"unknown {what} {name!r}; {nearest(name, known)}")
    try:
        import optuna
    except ImportError as error:
        raise InputError("tuning needs Optuna: pip install 'invsolve[bench]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name=_study_name(search, solver, section),
        storage=f"sqlite:///{search.storage}",
        directions=search.directions(),
        sampler=optuna.samplers.TPESampler(seed=search.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        load_if_exists=True,
    )
    noise = search.sections[section][0].noise
    present = inside(solver, row(solver, section, traits_of(search.prior), noise=noise).settings)
    if present is not None and not study.trials:
        study.enqueue_trial(present)

    def objective(trial: Any) -> tuple[float, ...]:
        found = _judge(search, solver, section, trial)
        report(found)
        return found.values

    finished = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    left = search.trials - sum(trial.state in finished for trial in study.trials)
    if left > 0:
        study.optimize(objective, n_trials=left, timeout=search.seconds)
    return _chosen(search, study.trials, finished[0])


def _study_name(search: Search, solver: str, section: str) -> str:
    """What trials in the storage belong to; what is drawn is a part of it where it is not what the tasks declare."""
    specs = search.sections[section]
    drawn = "" if sections().get(section) == specs else f" {[canonical(spec.content()) for spec in specs]}"
    weights = weights_of(search.prior)
    return f"{search.prior_name} {weights} {solver} {section} {search.digest} {' '.join(search.metrics)}{drawn}"


def _judge(search: Search, solver: str, section: str, trial: Any) -> Trial:
    """Run one candidate on every image and noise level of the section."""
    import optuna

    fixed, space = SPACES[solver]
    settings = {**fixed, **{name: part.suggest(trial, name) for name, part in space.items()}}
    built = SOLVERS[solver](**settings)
    scores: dict[str, list[float]] = {name: [] for name in {"psnr", "misfit", *search.metrics} - {"calls"}}
    functions = {name: METRICS[name].load() for name in scores}
    calls, specs = 0.0, search.sections[section]
    found = Trial(settings, (), math.nan, math.nan, math.nan)
    for i, image in enumerate(search.images):
        for spec in specs:
            measurement = measure(spec, image, f"tuning image {i}", 0)
            try:
                result = solve(measurement.problem(search.prior), built, items=[i])
            except InvsolveError as error:
                trial.set_user_attr(REASON, str(error))
                raise optuna.TrialPruned(str(error)) from error
            if not result.ok:
                trial.set_user_attr(REASON, result.status[0][0])
                raise optuna.TrialPruned(result.status[0][0])
            residual = measurement.residual(result.samples[0], {})[0]
            shown = measurement.visible(result.samples[0])[0].clamp(0, 1)
            case = Case(shown, measurement.truth, residual)
            for name, values in scores.items():
                values.append(functions[name](case))
            calls += result.stats.network_forwards + 2 * result.stats.network_backwards
        found = _found(search, solver, settings, scores, calls / ((i + 1) * len(specs)))
        if len(search.metrics) == 1:
            trial.report(found.values[0], i)
            if i + 1 < len(search.images) and trial.should_prune():
                raise optuna.TrialPruned
    for name in ("settings", "psnr", "misfit", "calls"):
        trial.set_user_attr(name, getattr(found, name))
    return found


def _found(
    search: Search, solver: str, settings: dict[str, Any], scores: dict[str, list[float]], calls: float
) -> Trial:
    means = {name: sum(values) / len(values) for name, values in scores.items()}
    misfit = math.exp(sum(math.log(max(v, 1e-6)) for v in scores["misfit"]) / len(scores["misfit"]))
    off = 0.0 if SOLVERS[solver].mode_seeking else max(0.0, abs(math.log2(misfit)) - TOLERANCE)
    values = []
    for name in search.metrics:
        if name == "calls":
            values.append(calls)
        elif name == "psnr":
            values.append(means[name] - PENALTY * off)
        else:
            values.append(METRICS[name].loss(means[name]) if METRICS[name].better == "target" else means[name])
    return Trial(settings, tuple(values), means["psnr"], misfit, calls)


def _chosen(search: Search, trials: Sequence[Any], complete: Any) -> Trial:
    found = [
        Trial(t.user_attrs["settings"], tuple(t.values), *(t.user_attrs[k] for k in ("psnr", "misfit", "calls")))
        for t in trials
        if t.state == complete and all(map(math.isfinite, t.values))
    ]
    if not found:
        reasons = [trial.user_attrs[REASON] for trial in trials if REASON in trial.user_attrs]
        because = f", the last because: {reasons[-1]}" if reasons else ": allow more trials or seconds"
        raise NoCandidate(f"no candidate ran to its end on all images{because}")
    sign = 1.0 if search.directions()[0] == "maximize" else -1.0
    best = max(sign * trial.values[0] for trial in found)
    margin = MARGIN if search.metrics[0] == "psnr" else 0.0
    return min((t for t in found if sign * t.values[0] >= best - margin), key=lambda t: t.calls)
