"""Threads and spinning: what is decided from processors, quota and load, and that a user's own environment stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from invsolve.execution import threads

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("usable", "processors", "others", "expected"),
    [(2, 2, 0, 2), (2, 2, 0.4, 2), (2, 2, 1.0, 1), (2, 2, 4, 1), (16, 16, 4, 12), (4, 64, 50, 4), (4, 64, 62, 2)],
)
def test_there_are_as_many_threads_as_idle_processors(usable, processors, others, expected):
    assert threads.share(usable, processors, others) == expected


def test_a_quota_of_the_container_bounds_the_processors(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert threads.usable(tmp_path) == 8
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert threads.usable(tmp_path) == 8
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert threads.usable(tmp_path) == 2
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert threads.usable(tmp_path) == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert threads.usable(tmp_path) == 8
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    assert threads.usable(tmp_path) == 3


def test_others_are_the_running_processes_but_this_one(tmp_path, monkeypatch):
    stat = tmp_path / "stat"
    stat.write_text("cpu 1 2 3\nprocs_running 5\nprocs_blocked 0\n")
    assert threads.others(stat) == 4
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 0.0, 0.0), raising=False)
    assert threads.others(tmp_path / "none") == 1.5


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 100])
def test_workers_together_take_no_more_than_the_processors(workers, monkeypatch):
    monkeypatch.setattr(threads, "usable", lambda: 8)
    assert threads.each(workers) * workers <= max(8, workers)
    assert threads.each(workers) >= 1


def test_the_environment_of_a_user_stays(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(threads, "usable", lambda: 8)
    monkeypatch.setattr(threads, "others", lambda: 100.0)
    own = {"OMP_NUM_THREADS": "3", "GOMP_SPINCOUNT": "7"}
    threads.arrange(own, follow=True)
    assert own == {"OMP_NUM_THREADS": "3", "GOMP_SPINCOUNT": "7"}
    passive = {"OMP_WAIT_POLICY": "passive"}
    threads.arrange(passive, follow=False)
    assert passive == {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "8"}
    busy: dict[str, str] = {}
    threads.arrange(busy, follow=True)
    assert busy == {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": threads.SPINS}


def test_nothing_is_arranged_for_threads_that_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", threads)
    environment: dict[str, str] = {}
    threads.arrange(environment, follow=True)
    assert environment == {}


COMMAND = """
import os, sys
import invsolve.execution.threads as threads
threads.others, threads.usable = lambda: 0.0 if sys.argv[2] == "idle" else 1e6, lambda: 2
import invsolve.commands.cli as cli
cli.parser_with = lambda command: Parser()
class Parser:
    def parse_args(self, words):
        import argparse
        return argparse.Namespace(run=show, checkpoint="x" if "--checkpoint" in words else None)
def show(args):
    print(os.environ["OMP_NUM_THREADS"], os.environ["GOMP_SPINCOUNT"], "torch" in sys.modules)
    return 0
sys.exit(cli.main([sys.argv[1], *sys.argv[3:]]))
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [("restore busy", 1), ("restore busy --checkpoint", 2), ("train busy", 2)],
)
def test_a_command_decides_before_torch_is_imported(words, expected):
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "MKL_"))}
    call = [sys.executable, "-c", COMMAND, *words.split()]
    found = subprocess.run(call, capture_output=True, text=True, check=True, cwd=ROOT, env=plain)
    assert found.stdout.split() == [str(expected), threads.SPINS, "False"]
