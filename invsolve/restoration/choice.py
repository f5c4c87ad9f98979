"""Choose the solver and its settings for a prior, a task and a noise level, and give the reason for the choice.

`invsolve restore`, the leaderboard suites, `invsolve tune` and the Python API all use `chosen`. A local prior uses the
tables of `natural`. A global prior (a pretrained network for whole images) is used with NDTM and the settings published
for it or for the nearest family. If settings of another prior are used, the reason is given in `Choice.reason`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invsolve.core.boundary import read_toml
from invsolve.core.checks import InputError, nearest
from invsolve.core.presets import published
from invsolve.core.solver import Solver
from invsolve.core.traits import Traits
from invsolve.restoration.settings import USUAL, choose, made, settings, table

__all__ = ["PUBLISHED_NOISE", "Choice", "chosen", "read_presets", "row"]

PUBLISHED_NOISE = 0.005
"""The noise level of the measurements for which settings were published, in [0, 1] units."""

MARGIN = 2.0
"""The published settings are used unchanged for noise levels up to this multiple of the published noise level."""

GLOBAL = "ndtm"
"""The solver for global priors (priors of whole images)."""

NEAREST: Mapping[str, tuple[str, ...]] = {
    "superres2": ("superres4",),
    "denoise": ("superres4",),
    "deblur": ("deblur", "superres4"),
    "demosaic": ("inpaint", "superres4"),
    "nonlinear-deblur": ("deblur-nonlinear",),
}
"""For some preset sections, the tasks whose published settings fit, nearest first; others use their own name, and then
those of superres4."""


@dataclass(frozen=True)
class Choice:
    """A solver and how it was chosen.

    Attributes:
        solver: the solver with its settings.
        source: where the settings come from: "natural/superres4", "ffhq256/inpaint", a file and its section, "defaults"
            or "given".
        reason: a sentence that explains the choice.
        own: whether the settings were found for this prior and task. If not, the reason is shown to the user.
    """

    solver: Solver
    source: str
    reason: str
    own: bool = True


@dataclass(frozen=True)
class Row:
    """Settings of a solver, before the user's changes are applied; see `Choice`."""

    settings: Mapping[str, Any]
    source: str
    reason: str
    own: bool = True


def chosen(
    section: str,
    traits: Traits,
    *,
    solver: str | Solver | None = None,
    sampling: bool = False,
    noise: float = PUBLISHED_NOISE,
    conditions: Mapping[str, float] = USUAL,
    quality: str = "balanced",
    changes: Mapping[str, Any] | None = None,
    preset: str | None = None,
    presets: str | Path | None = None,
) -> Choice:
    """Return the solver for a section of the preset tables.

    Args:
        section: see `Task.section`.
        traits: traits of the prior.
        solver: name of the solver, or a Solver object; if None, the best known solver.
        sampling: whether posterior samples are requested.
        noise: standard deviation of the noise in [0, 1] units.
        conditions: other conditions that settings depend on, see `Task.conditions`.
        quality: "fast", "balanced" or "best".
        changes: the user's settings; they replace the chosen ones.
        preset: name of published settings, such as "ffhq256/superres4".
        presets: a table of settings written by `invsolve tune`.

    Raises:
        InputError: unknown name, or no settings where some are required.
    """
    changes = changes or {}
    if isinstance(solver, Solver):
        return Choice(solver, "given", "The solver was given with its settings.")
    if preset is not None and presets is not None:
        raise InputError("--preset and --presets both name settings: give one of them")
    if presets is not None:
        found = read_presets(presets)
        name = solver or _of_table(found, section, presets, sampling=sampling)
        if name not in found.get(section, {}):
            known = nearest(f"{section}.{name}", [f"{s}.{n}" for s, rows in found.items() for n in rows])
            raise InputError(f"{presets} has no settings of {name} for {section}; {known}")
        picked = Row(found[section][name], f"{presets}/{section}", f"Settings of {name} for {section} from {presets}.")
        return _made(name, picked, changes)
    if preset is not None:
        name = solver or GLOBAL
        known = published(name)
        if preset not in known:
            raise InputError(f"{name} has no published settings {preset!r}; {nearest(preset, known)}")
        return _made(name, Row(known[preset].settings, preset, f"Published: {known[preset].source}."), changes)
    if traits.few_steps and (solver is None or not changes):
        raise InputError(
            "this prior was distilled to a few steps, and no settings are known for such priors: give --solver and "
            "--set, or find settings with invsolve tune and give --presets"
        )
    if traits.scope == "local":
        if solver is None and section not in table(traits.family):
            raise InputError(
                f"no solver is known for {section} under this prior: give --solver, or find settings with invsolve tune"
            )
        name = solver or choose(traits.family, section, sampling=sampling)
    else:
        name = solver or GLOBAL
    picked = row(name, section, traits, noise=noise, conditions=conditions, quality=quality)
    return _made(name, picked, changes)


def row(
    name: str,
    section: str,
    traits: Traits,
    *,
    noise: float = PUBLISHED_NOISE,
    conditions: Mapping[str, float] = USUAL,
    quality: str = "balanced",
) -> Row:
    """Return the settings of the solver `name` for a section, and where they come from; see `chosen`.

    Raises:
        InputError: no settings for this quality.
    """
    if traits.scope == "local":
        return _local(name, section, traits, {**conditions, "noise": noise}, quality)
    tasks = NEAREST.get(section, (section, "superres4"))
    if section == "blind-deblur":
        tasks = ("blind-deblur" if quality == "best" else "blind-deblur-fast", "blind-deblur")
    elif quality != "balanced":
        raise InputError(
            f"{name} has no settings of quality {quality!r} for this prior: leave out --quality, or change single "
            "settings with --set, such as n_steps=..."
        )
    known = published(name)
    families = [traits.family, *sorted({key.split("/")[0] for key in known} - {traits.family})]
    key = next((f"{f}/{task}" for f in families for task in tasks if f"{f}/{task}" in known), None)
    if key is None:
        return _defaults(name, section, traits)
    family, task = key.split("/")
    same_task = task.startswith(section) or (section, task) == ("nonlinear-deblur", "deblur-nonlinear")
    own = traits.own and family == traits.family and same_task
    changed = dict(known[key].settings)
    reason = f"{name} with the settings published as {key}"
    if not own:
        what = [] if traits.own and family == traits.family else ["this prior"]
        what += [] if same_task else [f"the task {section}"]
        reason += f", the nearest: none are known for {' and '.join(what)} (invsolve tune finds them)"
    if name == GLOBAL and noise > MARGIN * PUBLISHED_NOISE:
        changed["stop"] = 1.0
        reason += (
            f"; these settings are for a noise level of {PUBLISHED_NOISE:g}, so here updates stop when the residual "
            f"reaches the noise level {noise:.3g}"
        )
    return Row(changed, key, f"{reason}.", own)


def _local(name: str, section: str, traits: Traits, conditions: Mapping[str, float], quality: str) -> Row:
    found = settings(name, traits.family, section, conditions, quality)
    if name not in table(traits.family).get(section, {}):
        return _defaults(name, section, traits)
    source = f"{traits.family}/{section}"
    reason = f"{name} with the settings of {traits.family} for {section}"
    if not traits.own:
        reason += ", the nearest: this prior has none of its own (invsolve tune finds them)"
    return Row(found, source, f"{reason}.", traits.own)


def _defaults(name: str, section: str, traits: Traits) -> Row:
    reason = f"{name} with its own defaults: no settings are known for {section} under this prior or its family"
    return Row({}, "defaults", f"{reason} {traits.family} (invsolve tune finds them).", False)


def _made(name: str, picked: Row, changes: Mapping[str, Any]) -> Choice:
    return Choice(made(name, {**picked.settings, **changes}), picked.source, picked.reason, picked.own)


def read_presets(path: str | Path) -> Mapping[str, Any]:
    """Read a table of settings written by `invsolve tune`.

    Its form is {section: {"point": name, "samples": name, solver: settings}}.

    Raises:
        InputError: the file does not exist, or is not such a table.
    """
    found = read_toml(path, "table of settings")
    if not all(isinstance(rows, dict) for rows in found.values()):
        raise InputError(f"{path} is not a settings table: invsolve tune writes one")
    return found


def _of_table(found: Mapping[str, Any], section: str, path: str | Path, *, sampling: bool) -> str:
    if section not in found:
        raise InputError(f"{path} has no settings for {section}; {nearest(section, found)}")
    name = found[section].get("samples" if sampling else "point")
    if not isinstance(name, str):
        raise InputError(f"{path} does not say which solver is for {section}: give --solver")
    return name
