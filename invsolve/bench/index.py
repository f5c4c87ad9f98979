"""The SQLite index of a store: units, outcomes, scores. All SQL is here, in schema.sql and in queries.toml."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from invsolve.bench.outcomes import StoredFiles, StoreFull, stamp_of
from invsolve.bench.unit import Unit
from invsolve.core.checks import InputError

__all__ = ["Index"]

VERSION = 2
OUTCOME = "status", "error", "traceback", "forwards", "backwards", "seconds", "memory", "started", "finished", "worker"


class Index(StoredFiles):
    """The index of the files of a store."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        super().__init__(folder)
        self.db = connection

    @classmethod
    @contextmanager
    def _connected(cls, folder: Path, path: Path, name: str) -> Iterator[Self]:
        """Connect to a file or URI `name`; `path` is the file for messages.

        Raises:
            StoreFull: if the disk is full.
            InputError: if the index cannot be used.
        """
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

    def _connect_again(self, path: Path) -> None:
        """Use a copy of the index."""
        self.db.close()
        self.db = _connection(str(path))

    def _prepare_writing(self) -> None:
        """Use a write-ahead log, and create the tables of a new index."""
        self.db.execute("PRAGMA journal_mode=WAL")
        # Files are flushed one by one; after a power failure the index may lack its last rows, and adds them again.
        self.db.execute("PRAGMA synchronous=NORMAL")
        if not self.db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            self.db.executescript((files("invsolve") / "bench" / "schema.sql").read_text(encoding="utf-8"))

    def _check_version(self) -> None:
        found = self.db.execute("PRAGMA user_version").fetchone()[0]
        if found != VERSION:
            raise InputError(f"{self.folder} holds results of another version of invsolve: name another --store")

    def _replace_units(self, units: Sequence[Unit], meta: Mapping[str, Any]) -> None:
        rows = [(i, u.hash, u.measurement, u.item, u.task, u.solver, u.seed) for i, u in enumerate(units)]
        with self._transaction():
            self.db.execute("DELETE FROM units")
            self.db.executemany("INSERT INTO units VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            contents = {u.hash: u.content for u in units}
            self.db.executemany("INSERT OR IGNORE INTO contents VALUES (?, ?)", contents.items())
            for key, value in meta.items():
                self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def meta(self, key: str) -> Any:
        """Return a value stored by `Store.define`; None if there is none."""
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

    def _index_measurement(self, measurement: str, digest: str) -> None:
        row = (measurement, digest, stamp_of(self.measurement_path(measurement)))
        self.db.execute("INSERT OR REPLACE INTO measurements VALUES (?, ?, ?)", row)

    def _stamps(self) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
        """Return the digest and stamp of each outcome, and the stamp of each measurement."""
        outcomes = {row["unit"]: (row["digest"], row["stamp"]) for row in self.db.execute("SELECT * FROM outcomes")}
        return outcomes, {row["hash"]: row["stamp"] for row in self.db.execute("SELECT * FROM measurements")}

    def _name(self, unit: str) -> str:
        """Return the place of a unit in the tables, for messages."""
        row = self.db.execute("SELECT task, solver, item, seed FROM units WHERE hash = ?", (unit,)).fetchone()
        return unit if row is None else "/".join(map(str, row))

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

    def add_metrics(self, names: Sequence[str]) -> None:
        """Show these metrics in addition to those of the suite."""
        about = self.meta("description")
        about["metrics"] += [name for name in names if name not in about["metrics"]]
        self.db.execute("INSERT OR REPLACE INTO meta VALUES ('description', ?)", (json.dumps(about),))

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
