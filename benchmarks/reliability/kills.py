"""Kill a runner, its workers, a solve and a restoration at random moments, and check what is left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import invsolve as iv
from invsolve import costs, operators, solvers
from invsolve.bench.execute import execute
from invsolve.bench.reading import load_suite
from invsolve.bench.runner import Progress, run
from invsolve.bench.scoring import score
from invsolve.bench.store import Store
from invsolve.execution.workers import Workers
from invsolve.io import read_image

__all__ = ["SUITE", "finish", "of_restorations", "of_runners", "of_solves", "of_workers", "outcome"]

SUITE = Path(__file__).parent / "suite.toml"


class Slow(iv.Prior):
    """A denoiser of independent pixels that pauses in each call."""

    value_range = (0.0, 1.0)
    bounded = False

    def __init__(self, pause: float) -> None:
        self.schedule, self.pause = iv.VPSchedule(), pause

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        time.sleep(self.pause)
        alpha, sigma = self.schedule(t)
        return 0.5 + 0.1 * alpha / (0.1 * alpha**2 + sigma**2) * (x_t - 0.5 * alpha)

    def identity_state(self) -> tuple[()]:
        """Empty: the pause does not affect results."""
        return ()


def outcome(folder: Path) -> list[Any]:
    """All parts of a store that must not depend on how its suite was run."""
    with Store.reading(folder) as store:
        names = ("hash", "measurement", "item", "task", "solver", "seed", "status", "forwards")
        units = [tuple(unit[name] for name in names) for unit in store.units()]
        samples = [{k: v.tolist() for k, v in store.output(unit[0]).items()} for unit in units]
        return [units, samples, sorted(tuple(row)[:3] for row in store.query("scores"))]


def finish(folder: Path, workers: int = 1, report: Callable[[Progress], None] = lambda progress: None) -> None:
    """Run and score the suite."""
    with Store.writing(folder) as store:
        run(load_suite(SUITE), store, Workers(execute, workers, method="fork") if workers > 1 else None, report=report)
        score(store)


def _killed(target: Callable[..., Any], words: tuple[Any, ...], seconds: float) -> bool:
    """Run in a fork and kill it after `seconds`; return whether it was still alive."""
    process = get_context("fork").Process(target=target, args=words)
    process.start()
    process.join(seconds)
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


def of_runners(folder: Path, reference: Path, rng: random.Random, kills: int) -> Iterator[bool]:
    """Ten kills per store, then the same command without a kill."""
    expected, began = outcome(reference), time.monotonic()
    _killed(finish, (folder / "pilot",), 600.0)
    whole = time.monotonic() - began
    for number in range(-(-kills // 10)):
        store, count = folder / f"store{number}", min(10, kills - 10 * number)
        done = 0
        while done < count:
            if _killed(finish, (store,), rng.uniform(0, 0.4 * whole)):
                done += 1
            else:
                shutil.rmtree(store)  # it had finished: start another one
        finish(store)
        same = outcome(store) == expected
        yield from (same for _ in range(count))


def of_workers(folder: Path, reference: Path, rng: random.Random, kills: int) -> Iterator[bool]:
    """Two workers; one is killed after a random unit."""
    expected = outcome(reference)
    for number in range(kills):
        store, at = folder / f"workers{number}", rng.randrange(1, 6)
        with Store.writing(store) as opened:
            workers = Workers(execute, 2, method="fork")
            pid = rng.choice(workers.pids())

            def kill(progress: Progress, at: int = at, pid: int = pid) -> None:
                if progress.done == at:
                    os.kill(pid, signal.SIGKILL)

            run(load_suite(SUITE), opened, workers, report=kill)
            score(opened)
        yield outcome(store) == expected


def _solve(solver: iv.Solver, checkpoint: Path | None, pause: float) -> iv.Result:
    y = torch.linspace(0, 1, 2 * 48).view(2, 3, 4, 4)
    cost = costs.GaussianLikelihood(operators.Denoising((3, 4, 4)), y, 0.1)
    problem = iv.Problem(Slow(pause), cost, shape=(3, 4, 4))
    return iv.solve(problem, solver, samples=2, microbatch=3, checkpoint=checkpoint, checkpoint_seconds=0.0)


def of_solves(folder: Path, rng: random.Random, kills: int) -> Iterator[bool]:
    """A solve that writes its checkpoint at every step; it must continue and give the same bits."""
    kinds = [
        solvers.DPS(n_steps=20),
        solvers.NDTM(n_steps=10, n_inner=2),
        solvers.DDNM(n_steps=20),
        solvers.TDS(n_steps=10),
    ]
    straight = [_solve(solver, None, 0.0).samples for solver in kinds]
    for number in range(kills):
        which, path = number % len(kinds), folder / f"run{number}.pt"
        while not _killed(_solve, (kinds[which], path, 0.005), rng.uniform(0.02, 0.3)):
            path.unlink(missing_ok=True)
        yield torch.equal(_solve(kinds[which], path, 0.0).samples, straight[which])


def _restore(out: Path, pause: float) -> None:
    picture = torch.linspace(0, 1, 3 * 24 * 24).view(3, 24, 24)
    done = iv.restore(
        picture, "denoise", noise=0.1, prior=Slow(pause), solver=solvers.DPS(n_steps=8), samples=2,
        checkpoint=out.with_suffix(".run"), checkpoint_seconds=0.0,
    )  # fmt: skip
    done.save(out, overwrite=True)


def of_restorations(folder: Path, rng: random.Random, kills: int) -> Iterator[bool]:
    """A restoration with its files; after a kill, every file must be complete. Continuing must give the same bytes."""
    (folder / "straight").mkdir()
    _restore(folder / "straight" / "out.png", 0.0)
    expected = (folder / "straight" / "out.png").read_bytes()
    for number in range(kills):
        out = folder / f"restore{number}" / "out.png"
        out.parent.mkdir()
        while not _killed(_restore, (out, 0.005), rng.uniform(0.02, 0.3)):
            shutil.rmtree(out.parent)
            out.parent.mkdir()
        for path in out.parent.glob("*.png"):
            read_image(path)
        _restore(out, 0.0)
        yield out.read_bytes() == expected
