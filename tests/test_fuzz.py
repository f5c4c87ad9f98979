"""Damaged files of every kind end in an InvsolveError or are read, in little time and memory (`benchmarks/fuzz`)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from benchmarks.fuzz.run import failures, run
from benchmarks.fuzz.seeds import make_seeds


def _held(folder: Path, mutants: int, seed: int) -> None:
    pytest.importorskip("diffusers")
    logging.disable(logging.CRITICAL)
    try:
        seeds = make_seeds(folder)
        for one in seeds:
            path = folder / f"whole{Path(one.name).suffix}"
            path.write_bytes(one.content)
            one.read(path)
        outcomes = list(run(seeds, mutants, seed, folder))
    finally:
        logging.disable(logging.NOTSET)
    assert len(outcomes) == mutants
    assert failures(outcomes) == []
    assert {one.seed for one in outcomes if one.refused} == {one.name for one in seeds}


def test_damaged_files_are_held(tmp_path: Path) -> None:
    _held(tmp_path, 200, 1)


@pytest.mark.slow
def test_many_damaged_files_are_held(tmp_path: Path) -> None:
    _held(tmp_path, 1500, 2)
