"""The search: Optuna proposes settings, each is evaluated image by image, and poor ones are stopped early."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
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
from invsolve.priors.network import weights_of
from invsolve.priors.traits import traits_of
from invsolve.restoration.choice import row
from invsolve.solvers import SOLVERS
from invsolve.tune.spaces import SPACES, inside
from invsolve.tune.tasks import Sections, sections

__all__ = ["NoCandidate", "Search", "Trial", "tune"]

MARGIN, PENALTY, TOLERANCE = 0.03, 2.0, 0.1


REASON = "reason"
"""The attribute of a stopped trial that says why it could not run."""


class NoCandidate(InputError):
    """No candidate settings of a solver completed all images."""


@dataclass(frozen=True)
class Trial:
    """The results of one candidate on all images.

    Attributes:
        settings: all settings given to the solver.
        values: values of the metrics, in their order; the PSNR of a sampler minus the misfit penalty.
        psnr: mean PSNR in dB, without any penalty.
        misfit: rms of y - A x in units of the noise level, geometric mean over images.
        calls: network forward passes plus twice the backward passes, for one estimate.
    """

    settings: dict[str, Any]
    values: tuple[float, ...]
    psnr: float
    misfit: float
    calls: float


@dataclass(frozen=True, eq=False)
class Search:
    """The fixed parameters of a search.

    Attributes:
        prior, prior_name: the prior whose preset table is the start.
        images: [n, 3, s, s], see `crops`.
        storage: an SQLite file from which an interrupted search resumes.
        metrics: the first one decides; with several, Optuna keeps their Pareto front and no candidate is stopped
            early. "calls" is allowed as well.
        trials: number of candidates for a solver and task, including those of earlier sessions.
        seconds: time limit for a solver and task in this session; no limit if None.
        seed: seed of the proposals.
        sections: the degradations on which each section of the preset table is tuned.
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
        """Return the direction of each metric for Optuna; metrics with a target minimise the distance to it."""
        return ["maximize" if n != "calls" and METRICS[n].better == "high" else "minimize" for n in self.metrics]


def tune(search: Search, solver: str, section: str, report: Callable[[Trial], None] = lambda trial: None) -> Trial:
    """Find the best candidate for a solver on a section of the preset table.

    The settings of the current table are tried first, then Optuna's proposals (TPE; Bergstra et al. 2011). After each
    image, a candidate that is worse than the median of the earlier ones at that image is stopped. Of the candidates
    within 0.03 dB of the best, the one with the fewest network calls is returned. The PSNR of a sampler is reduced by
    2 dB for each factor of two between the rms data misfit and the noise level, beyond a tolerance of 0.1.

    Args:
        search: the fixed parameters of the search.
        solver: a name in `spaces.SPACES`.
        section: a section of `search.sections`.
        report: called with every candidate that was evaluated on all images.

    Raises:
        InputError: if the solver or section is unknown, Optuna is not installed, or no candidate completed all images.
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
    if present is not None and not any(_tries(trial, present) for trial in study.trials):
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


def _tries(trial: Any, settings: Mapping[str, Any]) -> bool:
    """Whether a trial has tried these settings, or is going to; an interrupted one has not."""
    if trial.state.name not in ("COMPLETE", "PRUNED", "WAITING"):
        return False
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params} == settings


def _study_name(search: Search, solver: str, section: str) -> str:
    """Return the study name for the storage; it includes the degradations if they differ from the tasks' own."""
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
        raise NoCandidate(f"no candidate finished on all images{because}")
    sign = 1.0 if search.directions()[0] == "maximize" else -1.0
    best = max(sign * trial.values[0] for trial in found)
    margin = MARGIN if search.metrics[0] == "psnr" else 0.0
    return min((t for t in found if sign * t.values[0] >= best - margin), key=lambda t: t.calls)
