"""The results of a suite: one folder, a file an outcome, and an SQLite index of them; it survives kill -9.

    STORE/suite.toml                   the suite as it was run
    STORE/results.db                   the index: units, outcomes, scores (SQLite, write-ahead log)
    STORE/measurements/ab/HASH.safetensors
    STORE/outputs/ab/HASH.safetensors  restorations, and in its header the record of the run

An outcome is complete when its file has its name: it is written aside, flushed, and linked, which fails where the name
exists. A row in the index follows; files without one (killed in between) are taken in at the next start. One process
writes, under a lock that ends with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from invsolve.bench.unit import Unit
from invsolve.core.checks import InputError, InvsolveError

__all__ = ["Store", "StoreFull", "guarded", "record_of", "write_whole"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS units (
    hash TEXT PRIMARY KEY, place INTEGER, active INTEGER, measurement TEXT, item TEXT, task TEXT, solver TEXT,
    seed INTEGER, content TEXT);
CREATE TABLE IF NOT EXISTS outcomes (
    unit TEXT PRIMARY KEY, status TEXT, error TEXT, traceback TEXT, forwards REAL, backwards REAL, seconds REAL,
    memory INTEGER, started REAL, finished REAL, worker TEXT, environment TEXT);
CREATE TABLE IF NOT EXISTS earlier (unit TEXT, record TEXT);
CREATE TABLE IF NOT EXISTS environments (hash TEXT PRIMARY KEY, content TEXT);
CREATE TABLE IF NOT EXISTS scores (
    unit TEXT, metric TEXT, implementation TEXT, value REAL, of_mean REAL, each TEXT, PRIMARY KEY (unit, metric));
CREATE TABLE IF NOT EXISTS set_scores (
    task TEXT, solver TEXT, metric TEXT, implementation TEXT, value REAL, count INTEGER, of TEXT,
    PRIMARY KEY (task, solver, metric));
CREATE TABLE IF NOT EXISTS notes (metric TEXT PRIMARY KEY, note TEXT);
CREATE INDEX IF NOT EXISTS active_units ON units (active, place);
"""
OUTCOME = "status", "error", "traceback", "forwards", "backwards", "seconds", "memory", "started", "finished", "worker"


class StoreFull(InvsolveError):
    """The disk took no more: nothing that was finished is lost."""


class Store:
    """An opened store; use `Store.reading` or `Store.writing`."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder, self.db = folder, connection

    @classmethod
    @contextmanager
    def reading(cls, folder: str | Path) -> Iterator[Self]:
        """Open what is there, beside whoever writes.

        Raises:
            InputError: there is no store.
        """
        folder = Path(folder)
        if not (folder / "results.db").is_file():
            raise InputError(f"there are no results in {folder}: run `invsolve bench run` first, or name --store DIR")
        with cls._connected(folder) as store:
            yield store

    @classmethod
    @contextmanager
    def writing(cls, folder: str | Path) -> Iterator[Self]:
        """Open or make a store as its only writer, and take in outcomes whose row is missing.

        Raises:
            InputError: another process writes to it, or the folder cannot be used.
        """
        folder = Path(folder)
        try:
            for part in ("outputs", "measurements"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            lock = (folder / "lock").open("a+")
        except OSError as error:
            raise InputError(f"{folder} cannot be used for results: {error.strerror}") from error
        with lock:
            _lock(lock, folder)
            with cls._connected(folder) as store:
                store.db.executescript(SCHEMA)
                store._take_in()
                yield store

    @classmethod
    @contextmanager
    def _connected(cls, folder: Path) -> Iterator[Self]:
        connection = sqlite3.connect(folder / "results.db", timeout=60.0, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            # Files are flushed one by one; the index may lose its last rows with the power, and takes them in again.
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.row_factory = sqlite3.Row
            yield cls(folder, connection)
        except sqlite3.DatabaseError as error:
            if "full" in str(error):
                raise StoreFull(f"the disk of {folder} is full: make room and run the same command again") from error
            raise InputError(f"{folder / 'results.db'} cannot be used: {error}") from error
        finally:
            connection.close()

    def define(self, name: str, source: str, units: Iterable[Unit], meta: Mapping[str, Any]) -> int:
        """Make these units the store's active ones, in this order; results of equal hashes stay. Returns their number.

        Raises:
            InputError: the store belongs to another suite.
        """
        known = self.meta("suite")
        if known is not None and known != name:
            raise InputError(f"{self.folder} holds the suite {known}, not {name}: name another --store")
        rows = [(u.hash, i, u.measurement, u.item, u.task, u.solver, u.seed, u.content) for i, u in enumerate(units)]
        with self._transaction():
            self.db.execute("UPDATE units SET active = 0")
            self.db.executemany(
                "INSERT INTO units VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO UPDATE SET active = 1, "
                "place = excluded.place, item = excluded.item, task = excluded.task, solver = excluded.solver",
                rows,
            )
            for key, value in {"suite": name, "source": source, **meta}.items():
                self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))
        write_whole(self.folder / "suite.toml", source.encode())
        return len(rows)

    def meta(self, key: str) -> Any:
        """What `define` noted; None if nothing."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row["value"])

    def units(self) -> list[sqlite3.Row]:
        """The active units in order, each with its outcome's columns (NULL while it has none)."""
        return self.db.execute(
            "SELECT u.hash, u.measurement, u.item, u.task, u.solver, u.seed, o.status, o.error, o.forwards, "
            "o.backwards, o.seconds, o.memory, o.environment FROM units u LEFT JOIN outcomes o ON o.unit = u.hash "
            "WHERE u.active = 1 ORDER BY u.place"
        ).fetchall()

    def content(self, unit: str) -> str:
        """What decides the outcome of a unit, as JSON."""
        return self.db.execute("SELECT content FROM units WHERE hash = ?", (unit,)).fetchone()["content"]

    def outcome(self, unit: str) -> dict[str, Any] | None:
        """All that is known about a unit's run."""
        row = self.db.execute("SELECT * FROM outcomes WHERE unit = ?", (unit,)).fetchone()
        return None if row is None else dict(row)

    def put(self, unit: str, content: bytes) -> bool:
        """Store an outcome; False where the unit has one already, which then stays.

        Raises:
            StoreFull: the disk takes no more.
        """
        path = self.output_path(unit)
        with guarded(self.folder):
            path.parent.mkdir(exist_ok=True)
            new = write_whole(path, content, replace=False)
            if new:
                self._index(unit, record_of(content))
        return new

    def _index(self, unit: str, record: Mapping[str, Any]) -> None:
        values = [record.get(key) for key in OUTCOME]
        content = record["environment"]
        environment = hashlib.sha256(content.encode()).hexdigest()[:16]
        self.db.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", (environment, content))
        marks = ", ".join("?" * (len(OUTCOME) + 2))
        self.db.execute(f"INSERT OR IGNORE INTO outcomes VALUES ({marks})", (unit, *values, environment))

    def retry(self, units: Sequence[str]) -> int:
        """Forget the failures among these units, so that they run again; their records are kept aside."""
        count = 0
        for unit in units:
            outcome = self.outcome(unit)
            if outcome is None or outcome["status"] == "ok":
                continue
            with self._transaction():
                self.db.execute("INSERT INTO earlier VALUES (?, ?)", (unit, json.dumps(outcome)))
                self.db.execute("DELETE FROM outcomes WHERE unit = ?", (unit,))
                self.output_path(unit).unlink(missing_ok=True)
            count += 1
        return count

    def add_metrics(self, names: Sequence[str]) -> None:
        """Show these metrics beside those of the suite."""
        about = self.meta("description")
        about["metrics"] += [name for name in names if name not in about["metrics"]]
        self.db.execute("INSERT OR REPLACE INTO meta VALUES ('description', ?)", (json.dumps(about),))

    def _take_in(self) -> None:
        """Index outcomes that were written when the last run was killed, and remove what was half-written."""
        known = {row["unit"] for row in self.db.execute("SELECT unit FROM outcomes")}
        for part in self.folder.glob("*/*/.*.part"):
            part.unlink()
        for folder in os.scandir(self.folder / "outputs"):
            for entry in os.scandir(folder.path):
                unit = entry.name.removesuffix(".safetensors")
                if unit not in known:
                    self._index(unit, record_of(Path(entry.path).read_bytes()))

    def output_path(self, unit: str) -> Path:
        """The file of a unit's outcome."""
        return self.folder / "outputs" / unit[:2] / f"{unit}.safetensors"

    def output(self, unit: str) -> dict[str, Tensor]:
        """The tensors of a unit's outcome."""
        from safetensors.torch import load

        return load(self.output_path(unit).read_bytes())

    def measurement_path(self, measurement: str) -> Path:
        """The file of a measurement."""
        return self.folder / "measurements" / measurement[:2] / f"{measurement}.safetensors"

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")


def record_of(content: bytes) -> dict[str, Any]:
    """The record in an outcome's header, without reading its tensors."""
    size = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["record"])


def write_whole(path: Path, content: bytes, *, replace: bool = True) -> bool:
    """Write a file that is there whole or not at all; without `replace`, False where it exists."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            part.replace(path)
            return True
        try:
            path.hardlink_to(part)
        except FileExistsError:
            return False
        return True
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Turn what a disk refuses into `StoreFull`."""
    try:
        yield
    except OSError as error:
        raise StoreFull(
            f"results cannot be written to {folder} ({error.strerror}); what was finished is kept: "
            "make room and run the same command again"
        ) from error


def _lock(file: Any, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        who = file.read().strip()
        raise InputError(f"another run ({who}) is writing to {folder}: wait for it, or stop it") from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {os.uname().nodename}")
    file.flush()
