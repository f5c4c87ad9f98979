"""Read suites from TOML: all keys are checked before anything runs, and errors suggest the nearest key."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from invsolve.bench.overrides import overridden
from invsolve.bench.suite import DataSpec, PriorSpec, SolverSpec, Suite, TaskSpec
from invsolve.bench.toml_text import toml_text
from invsolve.bench.trust import check_trusted, code_in
from invsolve.core.boundary import parse_toml, read_text
from invsolve.core.checks import InputError, nearest

__all__ = ["load_suite", "settings_for", "shipped", "suite_of"]

_TOP = ("title", "note", "published", "data", "prior", "run", "tasks", "solvers")
_RUN = {"seeds": [0], "samples": 1, "threads": 1, "microbatch": 0, "seconds": 0.0, "metrics": ["psnr", "ssim"]}
_SOLVER = ("name", "solver", "peer", "baseline", "preset", "settings", "samples", "tasks")
_KINDS = {dict: "a table", list: "a list"}
_NAMES = {"tasks": "superres4", "solvers": "ndtm"}


def shipped() -> list[str]:
    """Return the names of the suites in the package."""
    return sorted(path.name.removesuffix(".toml") for path in _folder().iterdir() if path.name.endswith(".toml"))


def _folder() -> Any:
    return files("invsolve") / "bench" / "suites"


def load_suite(name: str | Path, overrides: Sequence[tuple[str, Any]] = (), *, trust: bool = False) -> Suite:
    """Load a suite by its name in the package or from a TOML file.

    Args:
        name: a suite of the package or a path that ends in .toml.
        overrides: ("data.items", 2), ("run.samples", 4), ("prior.name", "natural"), ("ndtm.n_steps", 20) for one row,
            ("solver.n_steps", 20) for all rows whose solver has the setting, ("task.factor", 2) likewise for tasks.
        trust: whether the file may name its own code ("module:attribute"), which is imported and runs.

    Raises:
        InputError: if there is no such suite, or a part of it cannot be run; the message says where, and suggests the
            nearest name.
    """
    path = Path(name)
    if path.suffix == ".toml":
        text, label = read_text(path, "suite file"), path.stem
    elif str(name) in shipped():
        text, label = (_folder() / f"{name}.toml").read_text(encoding="utf-8"), str(name)
    else:
        raise InputError(f"unknown suite {str(name)!r}; {nearest(str(name), shipped())}; or name a .toml file")
    table = parse_toml(text, f"the suite {label}")
    check_trusted(f"the suite {label}", code_in(table), trust=trust)
    _check_shape(table)
    return suite_of(label, overridden(table, overrides))


def _keys(where: str, table: Any, known: Sequence[str]) -> dict[str, Any]:
    """Check the keys of a table, and return it."""
    if not isinstance(table, dict):
        raise InputError(f"{where} of the suite must be a table of values, got {table!r}")
    for key in table:
        if key not in known:
            raise InputError(f"{where} of the suite has no key {key!r}; {nearest(key, known)}")
    return table


def _typed(where: str, key: str, value: Any, kind: type | tuple[type, ...]) -> Any:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
        words = " or ".join(_KINDS.get(k, k.__name__) for k in kinds)
        raise InputError(f"{where} of the suite: {key} must be {words}, got {value!r}")
    return value


def suite_of(name: str, table: dict[str, Any]) -> Suite:
    """Make a suite of this name from a table, as read from TOML.

    Raises:
        InputError: if a part of it cannot be run.
    """
    from invsolve.metrics import metric_named

    _keys("the top level", table, _TOP)
    _check_shape(table)
    for part in ("data", "tasks", "solvers"):
        if not table.get(part):
            raise InputError(f"the suite {name} has no [{part}]: every suite needs data, tasks and solvers")
    run = {**_RUN, **_keys("[run]", table.get("run", {}), list(_RUN))}
    for key, default in _RUN.items():
        _typed("[run]", key, run[key], (int, float) if isinstance(default, float) else type(default))
    if not run["seeds"] or min(run["samples"], run["threads"]) < 1 or min(run["microbatch"], run["seconds"]) < 0:
        raise InputError(
            "[run] of the suite: give at least one seed, samples and threads of at least 1, other values of at least 0"
        )
    _different("seeds", run["seeds"])
    for seed in run["seeds"]:
        _typed("[run]", "each of seeds", seed, int)
    for metric in _words("[run]", "metrics", run["metrics"]):
        metric_named(metric)
    prior = PriorSpec(**_keys("[prior]", table.get("prior", {}), ["name", "options"]))
    _typed("[prior]", "name", prior.name, str)
    _typed("[prior]", "options", prior.options, dict)
    named = tuple(_task(row) for row in table["tasks"])
    _different("tasks", [task.name for task in named])
    tasks, left_out = _runnable(named, table["tasks"])
    known = [task.name for task in named]
    rows = [_solver(row, tasks, known, prior.name, run["samples"]) for row in table["solvers"]]
    solvers = tuple(row for row in rows if row.settings or not left_out)
    _different("solvers", [row.name for row in rows])
    return Suite(
        name=name,
        title=str(table.get("title", name)),
        data=_data(table["data"]),
        prior=prior,
        tasks=tasks,
        solvers=solvers,
        seeds=tuple(run["seeds"]),
        threads=run["threads"],
        microbatch=run["microbatch"],
        seconds=float(run["seconds"]),
        metrics=tuple(run["metrics"]),
        published=str(table.get("published", "")),
        note=" ".join([str(table.get("note", "")), *left_out]).strip(),
        source=toml_text(table),
    )


def _check_shape(table: Mapping[str, Any]) -> None:
    """Raise `InputError` unless the parts of a suite are tables, or lists of tables with their settings."""
    for part in ("data", "prior", "run"):
        _typed("the top level", part, table.get(part, {}), dict)
    for part, what in (("tasks", "task"), ("solvers", "solver")):
        for row in _typed("the top level", part, table.get(part, []), list):
            if not isinstance(row, dict) or not isinstance(row.get("name"), str):
                raise InputError(f"every {what} of the suite needs a name, for example name = {_NAMES[part]!r}")
            _typed(f"the {what} {row['name']!r}", "settings", row.get("settings", {}), dict)


def _words(where: str, key: str, value: Any) -> list[str]:
    """Check that a value is a list of words, and return it."""
    for word in _typed(where, key, value, list):
        if not isinstance(word, str):
            raise InputError(f"{where} of the suite: {key} must be a list of str, got {value!r}")
    return value


def _different(what: str, names: list[Any]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two {what} of the suite are named {name!r}: names must differ")


def _data(table: Any) -> DataSpec:
    known = {f.name: f for f in dataclasses.fields(DataSpec)}
    _keys("[data]", table, list(known))
    for key in ("kind", "path", "fit"):
        _typed("[data]", key, table.get(key, ""), str)
    kind = table.get("kind", "")
    kinds = ("draws", "folder", "list", "packaged")
    if kind not in kinds:
        raise InputError(f"[data] of the suite: unknown kind {kind!r}; {nearest(str(kind), kinds)}")
    for key in ("items", "size"):
        if _typed("[data]", key, table.get(key, 0), int) < 0:
            raise InputError(f"[data] of the suite: {key} must be at least 0, got {table[key]}")
    if table.get("fit", "crop") not in ("crop", "resize", "stretch"):
        raise InputError(f"[data] of the suite: fit must be 'crop', 'resize' or 'stretch', got {table['fit']!r}")
    if kind == "draws" and not table.get("items"):
        raise InputError("[data] of the suite: draws needs items, the number of images to draw")
    return DataSpec(**table)


def _task(row: Any) -> TaskSpec:
    from invsolve.bench.tasks import check_options, kinds, option_names

    where = f"the task {row['name']!r}"
    kind = _typed(where, "kind", row.get("kind", ""), str)
    if kind not in kinds():
        raise InputError(f"{where} of the suite: unknown kind {kind!r}; {nearest(str(kind), kinds())}")
    options = _keys(where, row, ["name", "kind", "noise", "optional", *option_names(kind)])
    _typed(where, "optional", row.get("optional", False), bool)
    noise = float(_typed(where, "noise", row.get("noise", 0.01), (int, float)))
    assumed = row.get("assumed", 0.0)
    if not 0 < (noise or _typed(where, "assumed", assumed, (int, float))) <= 1 or noise < 0:
        raise InputError(f"{where} of the suite: noise must be above 0 and at most 1, got {noise}")
    rest = {key: value for key, value in options.items() if key not in ("name", "kind", "noise", "optional")}
    task = TaskSpec(row["name"], kind, noise, rest)
    check_options(where, task)
    return task


def _runnable(tasks: Sequence[TaskSpec], rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[TaskSpec, ...], list[str]]:
    """Return the tasks without optional ones that need a missing file, and a message for each task left out."""
    from invsolve.bench.tasks import missing

    lacking = {
        t.name: words for t, row in zip(tasks, rows, strict=True) if row.get("optional") and (words := missing(t))
    }
    if len(lacking) == len(tasks):
        raise InputError(f"no task of the suite can run here; {' '.join(lacking.values())}")
    left_out = [f"The task {name} is left out, {words}." for name, words in lacking.items()]
    return tuple(task for task in tasks if task.name not in lacking), left_out


def _solver(row: Any, tasks: Sequence[TaskSpec], known: Sequence[str], prior: str, samples: int) -> SolverSpec:
    name = row["name"]
    where = f"the solver {name!r}"
    _keys(where, row, _SOLVER)
    for key in ("solver", "peer", "preset"):
        _typed(where, key, row.get(key, ""), str)
    _typed(where, "baseline", row.get("baseline", False), bool)
    for task in _words(where, "tasks", row.get("tasks", [])):
        if task not in known:
            raise InputError(f"{where} of the suite: unknown task {task!r}; {nearest(task, known)}")
    chosen = [task for task in tasks if task.name in row.get("tasks", known)]
    count = _typed(where, "samples", row.get("samples", samples), int)
    if "peer" in row or row.get("baseline", False):
        return _foreign(where, row, chosen, count)
    solver, preset = row.get("solver", name), row.get("preset", "restore")
    settings = {task.name: settings_for(where, solver, preset, prior, task, row.get("settings", {})) for task in chosen}
    return SolverSpec(name, "solver", solver, settings, preset, count)


def _foreign(where: str, row: dict[str, Any], tasks: Sequence[TaskSpec], samples: int) -> SolverSpec:
    """Return the spec of a peer, or of the baseline of each task."""
    if row.get("settings"):
        raise InputError(f"{where} of the suite: peers and baselines have no settings, they run as shipped")
    empty: dict[str, dict[str, Any]] = {task.name: {} for task in tasks}
    if "peer" not in row:
        return SolverSpec(row["name"], "baseline", "baseline", empty, "baseline of the task", 1)
    from invsolve.bench.peers import peer_named

    try:
        peer = peer_named(row["peer"])
    except InputError as error:
        raise InputError(f"{where} of the suite: {error}") from error
    return SolverSpec(row["name"], "peer", peer.name, empty, peer.settings, samples)


def settings_for(where: str, solver: str, preset: str, prior: str, task: TaskSpec, changes: Any) -> dict[str, Any]:
    """Return all settings of a solver for a task: the changes, else the preset, else the defaults of the class."""
    from invsolve.bench.tasks import level, section
    from invsolve.core.presets import published
    from invsolve.core.settings import made_with
    from invsolve.restoration.choice import read_presets, row
    from invsolve.restoration.loading import traits_for
    from invsolve.restoration.options import Options
    from invsolve.solvers import SOLVERS

    if not SOLVERS.accepts(solver):
        raise InputError(f"{where} of the suite: unknown solver {solver!r}; {nearest(solver, SOLVERS)}")
    kind, _, name = preset.partition(":")
    if kind == "restore":
        base = dict(row(solver, section(task), traits_for(Options(prior=name or prior)), noise=level(task)).settings)
    elif kind == "published":
        known = published(solver)
        key = name if "/" in name else f"{name}/{task.name}"
        if key not in known:
            raise InputError(f"{where} of the suite: no preset {key!r}; {nearest(key, known)}")
        base = dict(known[key].settings)
    elif kind == "default":
        base = {}
    elif kind == "file":
        base = read_presets(name).get(section(task), {}).get(solver, {})
    else:
        kinds = ("default", "file", "published", "restore")
        raise InputError(f"{where} of the suite: unknown preset {preset!r}; {nearest(kind, kinds)}")
    built = made_with(SOLVERS[solver], {**base, **changes}, solver)
    return {f.name: getattr(built, f.name) for f in dataclasses.fields(built)}
