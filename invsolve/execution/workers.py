"""Jobs in worker processes on this machine, each with a fixed number of threads."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from multiprocessing import connection, get_all_start_methods, get_context, parent_process
from typing import Any

from invsolve.core.checks import InputError
from invsolve.core.lazy import torch
from invsolve.execution.executor import Event, Executor, Run

__all__ = ["Workers"]


class Workers(Executor):
    """Runs jobs in `count` processes. A dead process is replaced, and its job returns as an `Event` without content.

    The number of threads of each worker is set by OMP_NUM_THREADS before it imports anything. A worker ends as soon as
    its parent ends, for whatever reason, so that a restarted run never meets workers of the previous run.

    Args:
        run: module-level function that turns a job into its outcome.
        count: number of processes.
        threads: threads of each process.
        devices: number of GPUs to share, one visible to each worker; every worker sees all GPUs if None.
        method: start method of `multiprocessing`; if None, "forkserver" if available, else "spawn".

    Raises:
        InputError: there are fewer GPUs than `devices`.
    """

    def __init__(
        self, run: Run, count: int, threads: int = 1, method: str | None = None, devices: int | None = None
    ) -> None:
        self._run, self._threads = run, threads
        self._gpus = None if devices is None else _gpus(devices)
        # The fork server has already imported the library, so workers start in milliseconds.
        method = method or ("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
        self._context = get_context(method)
        if method == "forkserver":
            self._context.set_forkserver_preload([run.__module__])
        self._workers = [self._start(place) for place in range(count)]

    def _start(self, place: int) -> _Worker:
        own: dict[str, str] = {name: str(self._threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        if self._gpus is not None:
            own["CUDA_VISIBLE_DEVICES"] = self._gpus[place % len(self._gpus)]
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            return _Worker(self._context, self._run, own)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name)
                else:
                    os.environ[name] = value

    def room(self) -> int:
        return sum(worker.job is None for worker in self._workers)

    def submit(self, job: Any) -> None:
        next(worker for worker in self._workers if worker.job is None).give(job)

    def wait(self) -> list[Event]:
        busy = [worker for worker in self._workers if worker.job is not None]
        ready = connection.wait([part for w in busy for part in (w.pipe, w.process.sentinel)])
        events = []
        for worker in busy:
            if worker.pipe in ready or worker.process.sentinel in ready:
                events.append(worker.take())
        self._workers = [self._start(place) if worker.dead else worker for place, worker in enumerate(self._workers)]
        return events

    def pids(self) -> list[int]:
        """Return the process ids, for tests that kill the workers."""
        return [worker.process.pid or 0 for worker in self._workers]

    def close(self) -> None:
        for worker in self._workers:
            worker.end()


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, context: Any, run: Run, environment: Mapping[str, str]) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, run, environment), daemon=True)
        self.process.start()
        theirs.close()
        self.job: Any = None
        self.dead = False

    def give(self, job: Any) -> None:
        self.job = job
        try:
            self.pipe.send(job)
        except OSError:
            return  # the worker is dead; `wait` will notice

    def take(self) -> Event:
        """Return the finished outcome, or an event that says how the worker died."""
        job, self.job = self.job, None
        assert job is not None
        try:
            if self.pipe.poll():
                return Event(job, self.pipe.recv_bytes())
        except (EOFError, OSError):
            pass
        self.dead = True
        self.process.join()
        return Event(job, None, _ending(self.process.exitcode))

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _gpus(count: int) -> list[str]:
    """Return the names of the first GPUs, as in CUDA_VISIBLE_DEVICES.

    With a name that does not exist, a worker would compute on the CPU.

    Raises:
        InputError: fewer than `count` GPUs are visible; an empty CUDA_VISIBLE_DEVICES hides all.
    """
    found = torch.cuda.device_count()  # does not initialise CUDA
    if found < count:
        raise InputError(
            f"--devices {count} (devices={count}) needs {count} GPUs, but torch sees {found}: lower it, or omit it to "
            "compute on the CPU"
        )
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(i) for i in range(count)] if told is None else told.split(",")
    return names[:count]


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (": out of memory?" if name == "SIGKILL" else "")
    return f"exit code {code}"


def _serve(pipe: Any, run: Run, environment: Mapping[str, str]) -> None:
    """Run jobs from the pipe and send their outcomes back, until the parent ends."""
    os.environ.update(environment)  # a forked worker starts with the environment of the fork server
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles interrupts
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send_bytes(run(job))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
