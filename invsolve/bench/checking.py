"""Checks of a submitted bundle: whether its parts are consistent, and what such checks cannot show."""

from __future__ import annotations

import hashlib
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from invsolve.bench.bundle import RESULT, UNIT, rows_csv
from invsolve.bench.outcomes import Damaged, digest_of, read_checked
from invsolve.bench.reading import load_suite
from invsolve.bench.store import Store
from invsolve.bench.suite import Suite, canonical
from invsolve.bench.table import tables
from invsolve.bench.text import markdown
from invsolve.bench.trust import code_in
from invsolve.bench.unit import CODE, Unit, measurement_hash, unit_hash
from invsolve.core.boundary import foreign, is_there, open_file, parse_json, parse_toml
from invsolve.core.checks import InputError

__all__ = ["CANNOT_SHOW", "check_bundle"]

FILES = {"index.json", "rows.csv", "tables.md", "suite.toml", "about.json", "manifest.json"}
LARGEST = 256 << 20
"""Largest size of a bundle in bytes, and of all its files unpacked."""

CANNOT_SHOW = (
    "that the outputs exist and are what the suite computes: give their store with --store, or run rows again",
    "that scores, network calls, seconds and memory are those of the outputs",
    "that the images and the weights of the prior match their names",
)
"""Facts that no comparison of the parts of a bundle can show."""


def check_bundle(path: Path, outputs: Path | None = None) -> list[str]:
    """Return messages about inconsistencies in a bundle; none if its parts are consistent, see `CANNOT_SHOW`.

    Args:
        path: the ZIP file.
        outputs: a store whose outputs are compared with the digests in the bundle.

    Raises:
        InputError: if the file is not a bundle.
    """
    files = _unpacked(path)
    manifest = parse_json(files["manifest.json"], "manifest.json")
    wrong = [
        f"{name} was changed" for name in FILES - {"manifest.json"} if manifest.get(name) != digest_of(files[name])
    ]
    if wrong:
        return sorted(wrong)
    with foreign(path):
        index = parse_json(files["index.json"], "index.json")
        about = parse_json(files["about.json"], "about.json")
        table = parse_toml(files["suite.toml"].decode(), "suite.toml")
        units = [Unit(**dict(zip(UNIT, row, strict=True)), content=index["contents"][row[0]]) for row in index["units"]]
        wrong = [*_of_units(units, index), *_of_suite(units, table, about)]
        if not (code_in(table) or _lacks_files(table)):
            wrong += _of_settings(units, _suite(str(about["suite"]), files["suite.toml"]))
        if not wrong:
            wrong += _of_tables(units, index, about, files)
        if outputs is not None:
            wrong += _of_outputs(index, outputs)
    return list(dict.fromkeys(wrong))


def _unpacked(path: Path) -> dict[str, bytes]:
    """Read the files of a bundle.

    Raises:
        InputError: if the files are not those of a bundle, or too large.
    """
    no_bundle = f"{path} is not a bundle of `invsolve bench submit`"
    with open_file(path, "bundle", LARGEST) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                if {member.filename for member in members} != FILES or len(members) != len(FILES):
                    raise InputError(f"{no_bundle}: it contains files other than {', '.join(sorted(FILES))}")
                if sum(member.file_size for member in members) > LARGEST:
                    raise InputError(f"{no_bundle}: it unpacks to more than {LARGEST >> 20} MiB")
                return {member.filename: archive.read(member) for member in members}
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{no_bundle}: {error}") from error


def _of_units(units: list[Unit], index: Mapping[str, Any]) -> Iterator[str]:
    """Compare names, contents, outcomes and scores of units with each other."""
    names = Counter((u.item, u.task, u.solver, u.seed) for u in units)
    yield from (f"{'/'.join(map(str, name))} occurs {n} times" for name, n in names.items() if n > 1)
    hashes = {unit.hash for unit in units}
    for what in ("contents", "outcomes"):
        yield from (f"{what} of a unit that has no row: {hash}" for hash in index[what].keys() - hashes)
        yield from (f"unit {hash} has no {what}" for hash in hashes - index[what].keys())
    for unit in units:
        spec = unit.spec()
        if unit_hash(unit.content) != unit.hash:
            yield f"unit {unit.hash} is not the hash of its content"
        if measurement_hash(spec) != unit.measurement:
            yield f"unit {unit.hash} states another measurement than its content"
        if spec["seed"] != unit.seed:
            yield f"unit {unit.hash} states another seed than its content"
    items = {(unit.item, unit.spec()["item"]) for unit in units}
    if len(items) != len({name for name, _ in items}):
        yield "several images have the same name"
    for hash, outcome in index["outcomes"].items():
        if outcome["status"] not in ("ok", "failed", "unable"):
            yield f"unit {hash} has the status {outcome['status']!r}"
        if not re.fullmatch("[0-9a-f]{64}", str(outcome["digest"])):
            yield f"unit {hash} has no digest of its output"
        if outcome["environment"] not in index["environments"]:
            yield f"unit {hash} ran in an environment that is not described"
    for hash, content in index["environments"].items():
        if hashlib.sha256(content.encode()).hexdigest()[:16] != hash:
            yield f"environment {hash} is not the hash of its content"
    whole = {hash for hash, outcome in index["outcomes"].items() if outcome["status"] == "ok"}
    yield from (f"unit {row[0]} has a score, but was not completed" for row in index["scores"] if row[0] not in whole)


def _of_suite(units: list[Unit], table: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[str]:
    """Compare the rows with the text of the suite, and that text with the description on the page."""
    run = {"seeds": [0], "samples": 1, "threads": 1, "microbatch": 0, "seconds": 0.0, **table.get("run", {})}
    described = about["description"]
    told = {row["name"] for row in described["tasks"]}
    tasks = {row["name"]: row for row in table["tasks"] if row["name"] in told or not row.get("optional", False)}
    left = {row["name"] for row in table["tasks"]} - tasks.keys()  # they need a file that was missing
    solvers = {row["name"]: row for row in table["solvers"] if not left or tasks.keys() & set(row.get("tasks", tasks))}
    items = list(dict.fromkeys(unit.item for unit in units))
    wanted = {
        (item, task, name, seed)
        for item in items for task in tasks for name, row in solvers.items() for seed in run["seeds"]
        if task in row.get("tasks", tasks)
    }  # fmt: skip
    found = {(u.item, u.task, u.solver, u.seed) for u in units}
    yield from (f"{'/'.join(map(str, name))} of the suite is missing" for name in sorted(wanted - found, key=str))
    yield from (f"{'/'.join(map(str, name))} is not in the suite" for name in sorted(found - wanted, key=str))
    if described["items"] != len(items):
        yield f"{len(items)} images have rows, {described['items']} are described"
    for part, rows in (("tasks", tasks), ("solvers", solvers)):
        if [row["name"] for row in described[part]] != list(rows):
            yield f"the {part} described are not those of the suite"
    if list(described["metrics"])[: len(run.get("metrics", []))] != list(run.get("metrics", [])):
        yield "the metrics described are not those of the suite"
    for unit in units:
        if (unit.item, unit.task, unit.solver, unit.seed) in wanted:
            yield from _of_unit(unit, table, run, tasks[unit.task], solvers[unit.solver])


def _of_unit(
    unit: Unit, table: Mapping[str, Any], run: Mapping[str, Any], task: Mapping[str, Any], row: Mapping[str, Any]
) -> Iterator[str]:
    spec, where = unit.spec(), f"{unit.task}/{unit.solver}"
    options = {key: value for key, value in task.items() if key not in ("name", "kind", "noise", "optional")}
    said = {"kind": task["kind"], "noise": float(task.get("noise", 0.01)), "options": options}
    if _without_code(spec["task"]) != canonical(said):
        yield f"the measurement of {unit.task} differs from the suite"
    own = spec["solver"]
    method = "peer" if "peer" in row else "baseline" if row.get("baseline", False) else "solver"
    name = {"peer": row.get("peer"), "baseline": "baseline"}.get(method, row.get("solver", row["name"]))
    samples = 1 if method == "baseline" else row.get("samples", run["samples"])
    if (own["method"], own["solver"], own["samples"]) != (method, name, samples):
        yield f"{where} ran with a method or number of samples that differs from the suite"
    for key, value in row.get("settings", {}).items():
        if canonical(own["settings"].get(key)) != canonical(value):
            yield f"{where} ran with another {key} than the suite says"
    prior = table.get("prior", {})
    known = (prior.get("name", "natural"), canonical(prior.get("options", {})))
    if (spec["prior"]["name"], canonical(spec["prior"]["options"])) != known:
        yield f"{where} ran with another prior than the suite says"
    if any(spec[key] != run[key] for key in ("threads", "microbatch", "seconds")):
        yield f"{where} ran with other threads, microbatches or seconds than the suite says"


def _without_code(content: Mapping[str, Any]) -> str:
    """Return the content of a task or a solver without the identity of code or files, which is not in a suite."""
    return canonical({key: value for key, value in content.items() if key != CODE})


def _lacks_files(table: Mapping[str, Any]) -> bool:
    """Whether settings depend on a prior or preset table in a file that is not available here."""
    from invsolve.priors import check_known

    prior = table.get("prior", {}).get("name", "natural")
    presets = [row.get("preset", "") for row in table["solvers"]]
    try:
        for name in (prior, *(preset.removeprefix("restore:") for preset in presets if preset.startswith("restore:"))):
            check_known(name)
    except InputError:
        return True
    return any(p.startswith("file:") and not is_there(p.removeprefix("file:")) for p in presets)


def _suite(name: str, content: bytes) -> Suite:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "suite.toml"
        path.write_bytes(content)
        return load_suite(path)


def _of_settings(units: list[Unit], suite: Suite) -> Iterator[str]:
    """Compare the rows with all settings that the suite resolves to in this version."""
    rows = {solver.name: solver for solver in suite.solvers}
    for unit in units:
        row = rows.get(unit.solver)
        if row is None or unit.task not in row.settings:
            continue
        if _without_code(unit.spec()["solver"]) != canonical(row.content(unit.task)):
            yield f"{unit.task}/{unit.solver} ran with other settings than this version of invsolve gives to the suite"


def _of_tables(units: list[Unit], index: Mapping[str, Any], about: Mapping[str, Any], files: Mapping[str, bytes]):
    """Compare rows.csv and tables.md with those made from the index."""
    with tempfile.TemporaryDirectory() as folder, Store.writing(Path(folder) / "store") as store:
        meta = {"description": about["description"]}
        store.define(str(about["suite"]), files["suite.toml"].decode(), units, meta)
        store.note("environments", *index["environments"].items())
        for hash, outcome in index["outcomes"].items():
            status, error, forwards, backwards, seconds, memory, environment, digest = (outcome[n] for n in RESULT)
            known = (status, error, None, forwards, backwards, seconds, memory, None, None, None, environment, digest)
            store.note("outcomes", (hash, *known, ""))
        store.note("scores", *((u, m, i, v, mean, "[]") for u, m, v, mean, i in index["scores"]))
        store.note("set_scores", *((t, s, m, i, v, 0, of) for t, s, m, v, i, of in index["set_scores"]))
        store.note("notes", *index["notes"])
        if rows_csv(store) != files["rows.csv"]:
            yield "rows.csv does not match the index"
        if markdown(tables(store)).encode() != files["tables.md"]:
            yield "tables.md does not match the index"


def _of_outputs(index: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Compare the files of a store with the digests."""
    with Store.reading(folder) as store:
        for hash, outcome in index["outcomes"].items():
            try:
                read_checked(store.output_path(hash), outcome["digest"])
            except Damaged as error:
                yield f"unit {hash}: {error}"
