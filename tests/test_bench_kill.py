"""SIGKILL at random moments, then the same command again: nothing lost, nothing twice, the same table in the end.

In this process' forks, which begin at once, and, slowly, of the command itself and of a driver of a Ray cluster.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import pytest
from benchtoy import final_table, toy, write_suite

from benchmarks.leaderboard.simulated import simulated
from invsolve.bench import store as store_module
from invsolve.bench.execute import execute
from invsolve.bench.report import write_report
from invsolve.bench.runner import Progress, run
from invsolve.bench.scoring import score
from invsolve.bench.store import Store
from invsolve.bench.text import status_text
from invsolve.execution.workers import Workers

# Completions are noted in a file before the store's link is made, by the process that makes it.
CHILD = """
import os, sys
from invsolve.bench import store as s
def noted(path, content, *, replace=True, write=s.write_whole):
    new = write(path, content, replace=replace)
    if not replace:
        with open(sys.argv[2], "a") as file:
            file.write(path.stem + (" new" if new else " again") + chr(10))
    return new
s.write_whole = noted
from invsolve.commands.cli import main
if __name__ == "__main__":
    sys.exit(main(["bench", "run", *sys.argv[1:2], *sys.argv[3:]]))
"""


def kill_and_restart(folder: Path, kills: int, seed: int, *words: str, settle: float = 0.0, first: float = 0.2) -> None:
    """Start the run again and again, killing it at random moments after it has begun, and let it end at last."""
    suite, journal, rng = write_suite(folder), folder / "journal", random.Random(seed)
    script = folder / "child.py"
    script.write_text(CHILD)
    journal.touch()
    command = [sys.executable, str(script), str(suite), str(journal), "--store", str(folder / "store"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(kills):
        before = journal.stat().st_size
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 300
        wanted = rng.choice((0, 1, 2))  # outcomes after which the clock starts: 0 kills while starting up, too
        while journal.stat().st_size < before + 36 * wanted and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, first))
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(settle)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


def check(folder: Path, reference: Path) -> None:
    lines = (folder / "journal").read_text().split("\n")
    counts = Counter(line.split()[0] for line in lines if line.endswith(" new"))
    assert max(counts.values()) == 1
    assert not [line for line in lines if line.endswith(" again")]
    assert final_table(folder / "store") == final_table(reference)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    with Store.writing(folder / "store") as store:
        run(toy(folder), store)
        score(store)
    return folder / "store"


def _forked_run(folder: Path, workers: int) -> None:
    """A run in a process that was forked from this one, which has imported everything."""
    write = store_module.write_whole

    def noted(path: Path, content: bytes, *, replace: bool = True) -> bool:
        new = write(path, content, replace=replace)
        if not replace:
            with (folder / "journal").open("a") as file:
                file.write(f"{path.stem} {'new' if new else 'again'}\n")
        return new

    store_module.write_whole = noted
    executor = Workers(execute, workers, method="fork") if workers > 1 else None
    with Store.writing(folder / "store") as store:
        run(toy(folder), store, executor)
        score(store)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("workers", [1, 2])
def test_twenty_kills_at_random_moments(workers, reference, tmp_path):
    context, rng = get_context("fork"), random.Random(workers)
    began = time.monotonic()
    pilot = tmp_path / "pilot"
    pilot.mkdir()
    process = context.Process(target=_forked_run, args=(pilot, workers))
    process.start()
    process.join()
    whole = time.monotonic() - began
    kills = 0
    (tmp_path / "journal").touch()
    for _ in range(20):
        process = context.Process(target=_forked_run, args=(tmp_path, workers))
        process.start()
        process.join(rng.uniform(0, 0.25 * whole))
        kills += process.is_alive()
        process.kill()
        process.join()
    process = context.Process(target=_forked_run, args=(tmp_path, workers))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert kills >= 5  # the rest found nothing left to do
    check(tmp_path, reference)


@pytest.mark.slow
def test_kills_of_the_command_itself(reference, tmp_path):
    kill_and_restart(tmp_path, 5, 0, "--workers", "2")
    check(tmp_path, reference)


@pytest.fixture
def cluster(monkeypatch):
    """A Ray cluster of two processors on this machine, in processes of its own, that answers those with its token."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    pytest.importorskip("ray")
    program = str(Path(sys.executable).parent / "ray")
    head = [
        program,
        "start",
        "--head",
        "--num-cpus=2",
        "--port=0",
        "--include-dashboard=false",
        "--disable-usage-stats",
    ]
    started = subprocess.run(head, capture_output=True, text=True, check=False, timeout=300)
    assert started.returncode == 0, started.stdout + started.stderr
    found = re.search(r"--address='([^']+)'", started.stdout)
    assert found, started.stdout
    yield found[1]
    subprocess.run([program, "stop", "--force"], capture_output=True, check=False, timeout=120)


@pytest.mark.slow
def test_twenty_kills_of_the_driver_of_a_ray_cluster(reference, tmp_path, cluster):
    kill_and_restart(tmp_path, 20, 2, "--ray", cluster, "--workers", "2", settle=0.2)
    check(tmp_path, reference)


@pytest.mark.slow
def test_a_ray_worker_killed_in_the_middle_is_replaced(reference, tmp_path, caplog):
    pytest.importorskip("ray")
    from invsolve.execution.ray import RayExecutor

    executor = RayExecutor(execute, "local", 2)
    pids = executor.pids()

    def kill(progress: Progress) -> None:
        if progress.done == 3:
            os.kill(pids[0], signal.SIGKILL)

    with Store.writing(tmp_path / "store") as store:
        assert run(toy(tmp_path), store, executor, report=kill) == 12
        score(store)
    assert "a worker died" in caplog.text
    assert final_table(tmp_path / "store") == final_table(reference)


@pytest.mark.slow
def test_a_hundred_thousand_units_are_reported(tmp_path):
    simulated(tmp_path / "store", items=1000, solvers=20, tasks=5)
    with Store.reading(tmp_path / "store") as store:
        assert "100000 ok" in status_text(store)
    assert write_report(tmp_path / "store").stat().st_size > 10_000
