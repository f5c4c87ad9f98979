"""Jobs on a Ray cluster: actors keep loaded models between jobs, and outcomes return to the driver."""

from __future__ import annotations

import importlib
import os
from typing import Any

from invsolve.core.checks import InputError
from invsolve.execution.executor import Event, Executor, Run

__all__ = ["RayExecutor"]


class _Holder:
    """The Ray actor: a separate process that keeps loaded models between jobs."""

    def __init__(self, run: Run, threads: int) -> None:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
        self._run = run

    def run(self, job: Any) -> bytes:
        return self._run(job)

    def pid(self) -> int:
        return os.getpid()


class RayExecutor(Executor):
    """Runs jobs in `count` actors with `threads` CPUs and `gpus` GPUs each.

    Actors belong to this driver and end with it, so that a restarted run computes nothing twice.

    Args:
        run: module-level function that turns a job into its outcome.
        address: address of the cluster ("auto", "HOST:PORT"), or "local" to start one on this machine.
        count: number of actors; as many as fit on the cluster if 0.
        threads: threads of each job.
        gpus: GPUs of each actor; may be a fraction.

    Raises:
        InputError: if Ray is not installed or there is no such cluster.
    """

    def __init__(self, run: Run, address: str, count: int = 0, threads: int = 1, gpus: float = 0.0) -> None:
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise InputError("--ray needs Ray: pip install 'invsolve[ray]'") from error
        self._ray = ray
        options: dict[str, Any] = {"num_cpus": max(count, 1) * threads} if address == "local" else {"address": address}
        # On a busy machine, a node takes longer to start than Ray waits by default.
        os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")
        try:
            ray.init(**options, include_dashboard=False if address == "local" else None, log_to_driver=False)
        except Exception as error:  # Ray raises plain exceptions here
            hint = "" if "RAY_AUTH_MODE" in os.environ else "; if it asks for a token, set RAY_AUTH_MODE=token"
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"no Ray cluster answers at {address!r}: {reason}{hint}") from error
        resources = ray.cluster_resources()
        room = int(resources.get("CPU", 1) // threads)
        if gpus:
            room = min(room, int(resources.get("GPU", 0) // gpus))
            if room < 1:
                ray.shutdown()
                raise InputError("the Ray cluster has no GPU: omit --devices")
        self._remote: Any = ray.remote(num_cpus=threads, num_gpus=gpus)(_Holder)
        self._make = lambda: self._remote.remote(run, threads)
        self._idle = [self._make() for _ in range(max(1, min(count or room, room)))]
        self._busy: dict[Any, tuple[Any, Any]] = {}

    def room(self) -> int:
        return len(self._idle)

    def submit(self, job: Any) -> None:
        actor = self._idle.pop()
        self._busy[actor.run.remote(job)] = (actor, job)

    def wait(self) -> list[Event]:
        ready, _ = self._ray.wait(list(self._busy), num_returns=1)
        events = []
        for reference in ready:
            actor, job = self._busy.pop(reference)
            try:
                events.append(Event(job, self._ray.get(reference)))
            except self._ray.exceptions.RayError as error:
                events.append(Event(job, None, type(error).__name__))
                self._ray.kill(actor)
                actor = self._make()
            self._idle.append(actor)
        return events

    def pids(self) -> list[int]:
        """Return the process ids of idle actors on this machine, for tests that kill them."""
        return self._ray.get([actor.pid.remote() for actor in self._idle])

    def close(self) -> None:
        self._ray.shutdown()
