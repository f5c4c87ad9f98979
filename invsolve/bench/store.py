"""The results of a suite: one folder with one file per outcome and an SQLite index; it survives kill -9.

    STORE/suite.toml                   the suite as it was run
    STORE/results.db                   the index: units, outcomes, scores (SQLite, write-ahead log)
    STORE/measurements/ab/HASH.safetensors
    STORE/outputs/ab/HASH.safetensors  restorations, with the record of the run in the header
    STORE/aside                        damaged files

An outcome is complete as soon as its file has its final name. Then a row with the digest of the file is added to the
index. Files without a row (the process was killed in between) are indexed at the next start. Only one process writes,
under a lock that ends with the process. Units of equal content share one outcome, even under different names.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from invsolve.bench.index import Index
from invsolve.bench.outcomes import (
    Damaged,
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


class Store(Index):
    """An opened store; use `Store.reading` or `Store.writing`."""

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
                store._connect_again(Path(copy) / "results.db")
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
            store._prepare_writing()
            store._check_version()
            store._take_in()
            yield store

    def define(self, name: str, source: str, units: Iterable[Unit], meta: Mapping[str, Any]) -> int:
        """Replace the units of the store, in this order, and return their number; outcomes of equal hashes are kept.

        Raises:
            InputError: if the store belongs to another suite.
        """
        known = self.meta("suite")
        if known is not None and known != name:
            raise InputError(f"{self.folder} holds the suite {known}, not {name}: name another --store")
        units = list(units)
        self._replace_units(units, {"suite": name, "source": source, **meta})
        write_whole(self.folder / "suite.toml", source.encode())
        return len(units)

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
        self._index_measurement(measurement, digest)

    def retry(self, units: Sequence[str]) -> int:
        """Remove the failures among these units, so that they run again; keep their records in the table "earlier"."""
        failed = [u for u in dict.fromkeys(units) if (self.outcome(u) or {"status": "ok"})["status"] != "ok"]
        for unit in failed:
            self._forget(unit)
            self.output_path(unit).unlink(missing_ok=True)
        return len(failed)

    def set_aside(self, unit: str, reason: object) -> None:
        """Move a damaged outcome to the folder `aside`, so that its unit runs again."""
        self.move_aside(self.output_path(unit))
        self._forget(unit)
        logger.warning("the outcome of %s is set aside and runs again: %s", self._name(unit), reason)

    def _take_in(self) -> None:
        """Index outcomes written before the last run was killed; set aside files that have changed."""
        for part in self.folder.glob("*/*/.*.part"):
            part.unlink()
        known, measurements = self._stamps()
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
        for name, stamp in measurements.items():
            path = self.measurement_path(name)
            if path.is_file() and stamp != stamp_of(path):
                self.measured(name)
