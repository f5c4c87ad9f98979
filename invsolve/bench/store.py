"""The results of a suite: one folder with one file per outcome and an SQLite index; it survives kill -9.

    STORE/suite.toml                   the suite as it was run
    STORE/results.db                   the index: units, outcomes, scores (SQLite, write-ahead log)
    STORE/measurements/ab/HASH.safetensors
    STORE/outputs/ab/HASH.safetensors  restorations, with the record of the run in the header
    STORE/aside                        damaged files

An outcome is complete as soon as its file has its final name. Then a row with the digest of the file is added to the
index. Files without a row (the process was killed in between) are indexed at the next start. Only one process writes,
under a lock that ends with the process. Units of equal content share one outcome, even under different names. All SQL
is here, in schema.sql and in queries.toml.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sqlite3
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from invsolve.bench.outcomes import (
    Damaged,
    StoredFiles,
    StoreFull,
    digest_of,
    guarded,
    hash_files,
    locked,
    read_checked,
    record_of,
    stamp_of,
)
from invsolve.bench.unit import Unit
from invsolve.core.checks import InputError
from invsolve.core.files import write_whole

__all__ = ["Store"]

logger = logging.getLogger(__name__)

VERSION = 2
OUTCOME = "status", "error", "traceback", "forwards", "backwards", "seconds", "memory", "started", "finished", "worker"


class Store(StoredFiles):
    """An opened store; use `Store.reading` or `Store.writing`."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        super().__init__(folder)
        self.db = connection

    @classmethod
    @contextmanager
    def reading(cls, folder: str | Path) -> Iterator[Self]:
        """Open an existing store, even while another process writes to it; the folder may be read-only.

        Raises:
            InputError: if there is no store.
        """
        folder = Path(folder)
        if not (path := folder / "results.db").is_file():
            raise InputError(f"there are no results in {folder}: run `invsolve bench run` first, or name --store DIR")
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with tempfile.TemporaryDirectory() as copy, cls._connected(folder, path, uri) as store:
            try:
                store._check_version()
            except sqlite3.OperationalError:  # in a read-only folder, the log can only be read from a copy
                for name in ("results.db", "results.db-wal"):
                    if (folder / name).is_file():
                        shutil.copyfile(folder / name, Path(copy) / name)
                store.db.close()
                store.db = _connection(str(Path(copy) / "results.db"))
                store._check_version()
            yield store

    @classmethod
    @contextmanager
    def writing(cls, folder: str | Path) -> Iterator[Self]:
        """Open or create a store as its only writer, index outcomes without a row, and set damaged files aside.

        Raises:
            InputError: if another process writes to the store, or the folder cannot be used.
        """
        folder = Path(folder)
        with locked(folder), cls._connected(folder, folder / "results.db", str(folder / "results.db")) as store:
            store.db.execute("PRAGMA journal_mode=WAL")
            # Files are flushed one by one; after a power failure the index may lack its last rows, and adds them again.
            store.db.execute("PRAGMA synchronous=NORMAL")
            if not store.db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                store.db.executescript((files("invsolve") / "bench" / "schema.sql").read_text(encoding="utf-8"))
            store._check_version()
            store._take_in()
            yield store

    @classmethod
    @contextmanager
    def _connected(cls, folder: Path, path: Path, name: str) -> Iterator[Self]:
        store = cls(folder, _connection(name))
        try:
            yield store
        except sqlite3.DatabaseError as error:
            if "full" in str(error):
                raise StoreFull(f"the disk of {folder} is full: make room and run the same command again") from error
            raise InputError(
                f"{path} cannot be used ({error}): move it away, and `invsolve bench run` makes it from the outcomes"
            ) from error
        finally:
            store.db.close()

    def _check_version(self) -> None:
        found = self.db.execute("PRAGMA user_version").fetchone()[0]
        if found != VERSION:
            raise InputError(f"{self.folder} holds results of another version of invsolve: name another --store")

    def define(self, name: str, source: str, units: Iterable[Unit], meta: Mapping[str, Any]) -> int:
        """Replace the units of the store, in this order, and return their number; outcomes of equal hashes are kept.

        Raises:
            InputError: if the store belongs to another suite.
        """
        known = self.meta("suite")
        if known is not None and known != name:
            raise InputError(f"{self.folder} holds the suite {known}, not {name}: name another --store")
        units = list(units)
        rows = [(i, u.hash, u.measurement, u.item, u.task, u.solver, u.seed) for i, u in enumerate(units)]
        with self._transaction():
            self.db.execute("DELETE FROM units")
            self.db.executemany("INSERT INTO units VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            contents = {u.hash: u.content for u in units}
            self.db.executemany("INSERT OR IGNORE INTO contents VALUES (?, ?)", contents.items())
            for key, value in {"suite": name, "source": source, **meta}.items():
                self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))
        write_whole(self.folder / "suite.toml", source.encode())
        return len(rows)

    def meta(self, key: str) -> Any:
        """Return a value stored by `define`; None if there is none."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row and json.loads(row["value"])

    def units(self) -> list[sqlite3.Row]:
        """Return the units in order, each with the columns of its outcome (NULL while it has none)."""
        return self.db.execute(
            "SELECT u.hash, u.measurement, u.item, u.task, u.solver, u.seed, o.status, o.error, o.forwards, "
            "o.backwards, o.seconds, o.memory, o.environment, o.digest FROM units u "
            "LEFT JOIN outcomes o ON o.unit = u.hash ORDER BY u.place"
        ).fetchall()

    def content(self, unit: str) -> str:
        """Return everything that determines the outcome of a unit, as JSON."""
        return self.db.execute("SELECT content FROM contents WHERE hash = ?", (unit,)).fetchone()["content"]

    def outcome(self, unit: str) -> dict[str, Any] | None:
        """Return the outcome row of a unit; None if it has not run."""
        row = self.db.execute("SELECT * FROM outcomes WHERE unit = ?", (unit,)).fetchone()
        return row and dict(row)

    def put(self, unit: str, content: bytes) -> bool:
        """Store an outcome; return False if the unit already has one, which is then kept.

        Raises:
            StoreFull: if the disk is full.
        """
        path = self.output_path(unit)
        with guarded(self.folder):
            path.parent.mkdir(exist_ok=True)
            new = write_whole(path, content, replace=False)
            if new:
                self._index(unit, record_of(content), digest_of(content))
        return new

    def _index(self, unit: str, record: Mapping[str, Any], digest: str) -> None:
        values = [record.get(key) for key in OUTCOME]
        content = record["environment"]
        environment = hashlib.sha256(content.encode()).hexdigest()[:16]
        self.db.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", (environment, content))
        marks = ", ".join("?" * (len(OUTCOME) + 4))
        stamp = stamp_of(self.output_path(unit))
        self.db.execute(
            f"INSERT OR REPLACE INTO outcomes VALUES ({marks})", (unit, *values, environment, digest, stamp)
        )

    def put_measurement(self, measurement: str, content: bytes) -> None:
        """Store a measurement. If an earlier draw of it differs, the outcomes of that draw are set aside.

        Raises:
            StoreFull: if the disk is full.
        """
        path, digest = self.measurement_path(measurement), digest_of(content)
        known = self.digest("measurements", measurement)
        with guarded(self.folder):
            path.parent.mkdir(exist_ok=True)
            write_whole(path, content)
        if known not in (None, digest):
            for unit in {
                u["hash"] for u in self.units() if u["measurement"] == measurement and u["status"] is not None
            }:
                self.set_aside(unit, "its measurement is now drawn in another way")
        row = (measurement, digest, stamp_of(path))
        self.db.execute("INSERT OR REPLACE INTO measurements VALUES (?, ?, ?)", row)

    def retry(self, units: Sequence[str]) -> int:
        """Remove the failures among these units, so that they run again; keep their records in the table "earlier"."""
        failed = [u for u in dict.fromkeys(units) if (self.outcome(u) or {"status": "ok"})["status"] != "ok"]
        for unit in failed:
            self._forget(unit)
            self.output_path(unit).unlink(missing_ok=True)
        return len(failed)

    def _forget(self, unit: str) -> None:
        """Remove an outcome and its scores from the index."""
        with self._transaction():
            self.db.execute("INSERT INTO earlier VALUES (?, ?)", (unit, json.dumps(self.outcome(unit))))
            self.db.execute("DELETE FROM outcomes WHERE unit = ?", (unit,))
            self.db.execute("DELETE FROM scores WHERE unit = ?", (unit,))
            self.db.execute(
                "DELETE FROM set_scores WHERE (task, solver) IN (SELECT task, solver FROM units WHERE hash = ?)",
                (unit,),
            )

    def set_aside(self, unit: str, reason: object) -> None:
        """Move a damaged outcome to the folder `aside`, so that its unit runs again."""
        self.move_aside(self.output_path(unit))
        self._forget(unit)
        row = self.db.execute("SELECT task, solver, item, seed FROM units WHERE hash = ?", (unit,)).fetchone()
        name = unit if row is None else "/".join(map(str, row))
        logger.warning("the outcome of %s is set aside and runs again: %s", name, reason)

    def add_metrics(self, names: Sequence[str]) -> None:
        """Show these metrics in addition to those of the suite."""
        about = self.meta("description")
        about["metrics"] += [name for name in names if name not in about["metrics"]]
        self.db.execute("INSERT OR REPLACE INTO meta VALUES ('description', ?)", (json.dumps(about),))

    def _take_in(self) -> None:
        """Index outcomes written before the last run was killed; set aside files that have changed."""
        for part in self.folder.glob("*/*/.*.part"):
            part.unlink()
        known = {unit: rest for unit, *rest in self.db.execute("SELECT unit, digest, stamp FROM outcomes")}
        for unit, path in hash_files(self.folder / "outputs"):
            digest, stamp = known.pop(unit, (None, None))
            if stamp is not None and stamp == stamp_of(path):
                continue
            try:
                content = read_checked(path, digest)
                self._index(unit, record_of(content, unit), digest_of(content))
            except Damaged as error:
                self.set_aside(unit, error)
        for unit in known:
            self.set_aside(unit, "its file is gone")
        for name, _, stamp in self.db.execute("SELECT * FROM measurements").fetchall():
            path = self.measurement_path(name)
            if path.is_file() and stamp != stamp_of(path):
                self.measured(name)

    def digest(self, table: str, name: str) -> str | None:
        """Return the recorded digest of a file in "outcomes" or "measurements"; None if it is not known."""
        column = "unit" if table == "outcomes" else "hash"
        row = self.db.execute(f"SELECT digest FROM {table} WHERE {column} = ?", (name,)).fetchone()
        return row and row["digest"]

    def query(self, name: str, *values: Any) -> list[sqlite3.Row]:
        """Run one of the queries in queries.toml and return its rows."""
        return self.db.execute(_query(name), values).fetchall()

    def note(self, name: str, *rows: Sequence[Any]) -> None:
        """Insert rows into a table, such as "notes", "scores" or "set_scores"; rows with equal keys are replaced."""
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            with self._transaction():
                self.db.executemany(f"INSERT OR REPLACE INTO {name} VALUES ({marks})", rows)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")


@cache
def _query(name: str) -> str:
    return tomllib.loads((files("invsolve") / "bench" / "queries.toml").read_text(encoding="utf-8"))[name]


def _connection(name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(name, timeout=60.0, isolation_level=None, uri=name.startswith("file:"))
    connection.row_factory = sqlite3.Row
    return connection
