"""Run one unit: the same code in this process, in a worker process and on a cluster."""

from __future__ import annotations

import json
import os
import platform
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from invsolve.bench.environment import environment
from invsolve.bench.suite import TaskSpec, canonical
from invsolve.bench.tasks import Measurement
from invsolve.core.checks import CapabilityError
from invsolve.core.context import threads
from invsolve.core.driver import Progress, solve
from invsolve.core.prior import Prior
from invsolve.execution.memory import forget_peak, peak

__all__ = ["Job", "execute", "failure", "load_spec_prior", "pack"]

LARGEST = 60000.0
"""Largest stored value: outputs are stored in half precision, whose largest number is 65504."""


@dataclass(frozen=True)
class Job:
    """The input of a worker: the content of the unit, and its measurement as the bytes of a safetensors file."""

    hash: str
    content: str
    measurement: bytes


class OverBudget(Exception):
    """A unit took longer than its suite allows."""


def execute(job: Job) -> bytes:
    """Run a unit; return its outcome as the bytes of the stored file: tensors, and a record with the status.

    The status is "ok", "unable" (the method cannot solve this problem), or "failed" with a traceback or the message of
    the solver. No exception is raised.
    """
    spec = json.loads(job.content)
    with threads(spec["threads"]):
        return _executed(job, spec)


def _executed(job: Job, spec: Mapping[str, Any]) -> bytes:
    record: dict[str, Any] = {"unit": job.hash, "started": time.time(), **_place()}
    tensors: dict[str, Tensor] = {}
    forget_peak()
    began, device = time.perf_counter(), "cpu"
    try:
        prior = load_spec_prior(spec["prior"]["name"], spec["prior"]["options"])
        device = prior.device.type
        began = time.perf_counter()  # loading the prior, once for all units of a process, does not count
        found, tensors = _solve(spec, _measurement(spec, job.measurement), prior)
        began += found.pop("loading", 0.0)  # nor does loading the network of a peer
        if 0 < spec["seconds"] < (took := time.perf_counter() - began):  # peers cannot be stopped during the run
            tensors = {}
            raise OverBudget(f"took {took:.1f} seconds, more than its limit of {spec['seconds']:g}")
        record |= found
    except CapabilityError as error:
        record |= {"status": "unable", "error": _line(error)}
    except Exception as error:
        from invsolve.bench.peers import Unable

        unable = isinstance(error, Unable)
        record |= {"status": "unable" if unable else "failed", "error": _line(error)}
        record |= {} if unable else {"traceback": traceback.format_exc()}
    record |= {"seconds": time.perf_counter() - began, "memory": peak(device), "finished": time.time()}
    return pack(record, tensors)


def failure(hash: str, error: str, trace: str = "") -> bytes:
    """Return the outcome of a unit that could not be started, or whose workers died."""
    now = time.time()
    record = {"unit": hash, "status": "failed", "error": error, "traceback": trace or error, **_place()}
    return pack({**record, "started": now, "finished": now, "seconds": 0.0, "memory": 0}, {})


def _place() -> dict[str, str]:
    """Describe the process and its environment, which differ between the nodes of a cluster."""
    return {"worker": f"{platform.node()}:{os.getpid()}", "environment": environment()}


def pack(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """Return the bytes of the outcome file."""
    from safetensors.torch import save

    return save({k: v.contiguous() for k, v in tensors.items()}, {"record": json.dumps(record)})


def load_spec_prior(name: str, options: Mapping[str, Any]) -> Prior:
    """Load a prior by its name and options in a suite; it is cached for the next unit of this process."""
    return _loaded(canonical({"name": name, "options": dict(options)}))


@lru_cache(maxsize=1)
def _loaded(spec: str) -> Prior:
    from invsolve import priors

    table = json.loads(spec)
    return priors.load(table["name"], **table["options"])


def _measurement(spec: Mapping[str, Any], content: bytes) -> Measurement:
    from safetensors.torch import load

    task = spec["task"]
    return Measurement.from_tensors(TaskSpec("", task["kind"], task["noise"], task["options"]), load(content))


def _solve(spec: Mapping[str, Any], measurement: Measurement, prior: Prior) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Run the method; return the record and the tensors."""
    solver, samples = spec["solver"], spec["solver"]["samples"]
    if solver["method"] == "baseline":
        image = measurement.baseline()
        record, found = _ending(image[None], "ok", 0.0, 0.0, {})
        return record, {"visible": found["samples"]} if found else {}
    problem = measurement.problem(prior)
    if solver["method"] == "peer":
        from invsolve.bench.peers import peer_named, run_peer

        done = run_peer(peer_named(solver["solver"]), problem, samples, spec["seed"])
        record, tensors = _ending(done.samples[0], "ok", done.forwards, done.backwards, {})
        return {**record, "loading": done.loading}, tensors
    from invsolve.solvers import SOLVERS

    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in solver["settings"].items()}
    result = solve(
        problem,
        SOLVERS[solver["solver"]](**settings),
        samples=samples,
        seed=spec["seed"],
        items=[spec["item"]],
        callbacks=[_budget(spec["seconds"])] if spec["seconds"] else [],
        microbatch=spec["microbatch"] or None,
    )
    theta = {f"theta.{name}": value[0].float() for name, value in result.theta.items()}
    sentence = next((s for s in result.status[0] if s != "ok"), "ok")
    stats = result.stats
    return _ending(result.samples[0], sentence, stats.network_forwards, stats.network_backwards, theta)


def _ending(
    samples: Tensor, sentence: str, forwards: float, backwards: float, theta: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    calls = {"forwards": forwards, "backwards": backwards}
    if sentence == "ok" and not bool(torch.isfinite(samples).all()):
        sentence = "values are not finite"
    if sentence != "ok":
        return {"status": "failed", "error": sentence, "traceback": sentence, **calls}, {}
    return {"status": "ok", **calls}, {"samples": _half(samples), **theta}


def _half(samples: Tensor) -> Tensor:
    return samples.float().clamp(-LARGEST, LARGEST).half()


def _budget(seconds: float) -> Any:
    end = time.perf_counter() + seconds

    def callback(progress: Progress) -> None:
        if time.perf_counter() > end:
            raise OverBudget(
                f"stopped at step {progress.step} of {progress.n_steps}: over its limit of {seconds:g} seconds"
            )

    return callback


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
