"""One thread, torch's default and invsolve's choice: on an idle machine, and with busy processes.

Every contender is a separate process, started once with its environment. They run the same work in turns, so that
other work on the machine affects all of them equally. Times are wall time, because that is what users wait for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.speed.pairs import Timing

__all__ = ["run", "serve"]

CONTENDERS: Mapping[str, Mapping[str, str]] = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "as torch does by itself": {},
    "as invsolve decides": {"INVSOLVE_BENCHMARK_DECIDES": "1"},
}
"""Environments of the processes, set before torch is imported."""

BUSY = "while True: pass"


def _works() -> dict[str, Callable[[], object]]:
    """The measured work: a network call, and the transforms of a data step."""
    import torch

    from invsolve.restoration.loading import load_prior
    from invsolve.restoration.options import Options

    prior = load_prior(Options())
    x = torch.full((1, 3, 256, 256), 0.5)
    kernel = torch.randn(3, 288, 145, dtype=torch.complex64)
    y = torch.randn(3, 288, 288)

    def network() -> None:
        with torch.no_grad():
            prior.denoise(x, 0.3)

    def transforms() -> None:
        z = y
        for _ in range(20):
            z = torch.fft.irfft2(torch.fft.rfft2(z) * kernel, s=(288, 288)) / 100
            z = y + 0.1 * z

    return {"network": network, "transforms": transforms}


def serve() -> None:
    """A contender's process: it reads names of work and writes seconds."""
    if "INVSOLVE_BENCHMARK_DECIDES" in os.environ:
        from invsolve.execution.threads import arrange

        arrange(os.environ, follow=True)
    works = _works()
    for work in works.values():
        work()
    sys.stdout.write(f"{os.environ.get('OMP_NUM_THREADS', 'all')}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        began = time.perf_counter()
        works[line.strip()]()
        sys.stdout.write(f"{time.perf_counter() - began}\n")
        sys.stdout.flush()


@contextmanager
def _processes() -> Iterator[tuple[dict[str, subprocess.Popen[str]], str]]:
    """The processes of the contenders, and the number of threads that invsolve chose."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "MKL_", "KMP_"))}
    call = [sys.executable, "-m", "benchmarks.speed.threads"]
    started: dict[str, subprocess.Popen[str]] = {}
    decided = ""
    try:
        for name, own in CONTENDERS.items():
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            started[name] = subprocess.Popen(call, env={**plain, **own}, **pipes)
            out = started[name].stdout
            assert out is not None
            decided = out.readline().strip()  # before the next one starts, because that would add load
        yield started, decided
    finally:
        for process in started.values():
            process.kill()
            process.wait()


@contextmanager
def _busy(count: int) -> Iterator[None]:
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def run(rounds: int, beside: Sequence[int]) -> None:
    """Measure all contenders with each number of busy processes, and write the table."""
    from benchmarks.common import markdown
    from benchmarks.speed.pairs import save

    rows: list[dict[str, Any]] = []
    for count in beside:
        load = os.getloadavg()[0]
        with _busy(count), _processes() as (processes, decided):
            for work in ("network", "transforms"):
                found = _measured(processes, work, rounds)
                rows.append({"beside": count, "load": load, "work": work, "decided": decided, **found})
    head = ["busy processes", "work", *CONTENDERS, "decided threads", "of one thread", "of torch's own"]
    lines = []
    for row in rows:
        one, own, decided = (row[name] for name in CONTENDERS)
        cells = [f"{1000 * t.median:.0f} ({1000 * t.low:.0f} to {1000 * t.high:.0f})" for t in (one, own, decided)]
        ratios = [f"{decided.median / other.median:.2f}" for other in (one, own)]
        lines.append([row["beside"], row["work"], *cells, row["decided"], *ratios])
    save("threads", rows, markdown(head, lines))


def _measured(processes: Mapping[str, subprocess.Popen[str]], work: str, rounds: int) -> dict[str, Timing]:
    names = list(processes)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            process = processes[name]
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{work}\n")
            process.stdin.flush()
            seconds[name].append(float(process.stdout.readline()))
    from benchmarks.speed.pairs import Timing

    return {name: Timing.of(values) for name, values in seconds.items()}


if __name__ == "__main__":
    serve()
