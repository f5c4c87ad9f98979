"""The record of a restoration: everything needed to repeat and judge it."""

from __future__ import annotations

import dataclasses
import platform
from importlib.metadata import version
from typing import Any

import torch

from invsolve.core.prior import Prior
from invsolve.core.result import Result
from invsolve.core.solver import Solver
from invsolve.restoration.job import Job
from invsolve.restoration.told import Doubts
from invsolve.tasks.auto import Unchanged

__all__ = ["UNCHANGED", "make_record"]

UNCHANGED = "the unchanged image"
"""The value of "estimate" in a record if nothing was restored."""


def make_record(job: Job, prior: Prior, result: Result, misfits: list[float], doubts: Doubts) -> dict[str, Any]:
    """Return the record as a dictionary of plain values; the command line adds its arguments and the written files.

    Args:
        job: the job that was run.
        prior: the prior as it was used, including tiling.
        result: the solver's result.
        misfits: rms of y - A(x) in units of the noise level, for each sample.
        doubts: doubts about the result.
    """
    options, plan, stats = job.options, job.plan, result.stats
    return {
        "versions": {
            "invsolve": version("invsolve"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
        **job.record,
        "task": {"name": job.task.name, "simulated": options.simulate, **job.task.record(prior)},
        "noise": _noise(job),
        "prior": {
            "name": options.prior_name,
            "description": repr(prior),
            "options": {name: _plain(value) for name, value in options.prior_options.items()},
            "traits": dataclasses.asdict(job.traits),
            **{name: v for name in ("label", "prompt", "negative_prompt") if (v := getattr(options, name)) is not None},
        },
        "solver": {
            "name": job.solver.name,
            "settings": _settings(job.solver),
            "chosen": {"source": job.choice.source, "reason": job.choice.reason, "own": job.choice.own},
        },
        "identity": result.config.get("identity"),
        "seed": options.seed,
        "samples": options.samples,
        "quality": options.quality,
        "precision": _precision(prior),
        "estimate": _estimate(job, doubts),
        "device": str(prior.device),
        "threads": torch.get_num_threads(),
        "plan": dataclasses.asdict(plan),
        "size": list(job.task.restored_size(job.measured)),
        "status": list(result.status[0]),
        "warnings": [*doubts.failures, *doubts.warnings],
        "checks": dict(doubts.checks),
        "misfit": misfits,
        "stats": dataclasses.asdict(stats),
    }


def _estimate(job: Job, doubts: Doubts) -> str:
    samples = job.options.samples
    if doubts.nothing_found or isinstance(job.task, Unchanged):
        return UNCHANGED
    if job.task.interpolates:
        return "bicubic interpolation"
    if job.point is not None:
        return f"point estimate by {job.point.name}, intervals from {samples} samples"
    if samples is not None:
        return f"mean of {samples} samples"
    # NDTM minimises a cost but starts from noise, so another seed gives another image.
    return "point estimate" if job.solver.mode_seeking or job.traits.scope == "local" else "one posterior sample"


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | None) else str(value)


def _noise(job: Job) -> dict[str, Any]:
    noise = job.noise
    given = job.options.noise != "auto"
    return {
        "sigma": float(job.options.noise) if given else noise.sigma,
        "source": "given" if given else "task" if job.task.noise_level is not None else "estimated",
        "method": noise.method,
        "used": job.task.noise_inflation * job.channel_sigma,
        "found": noise.description,
        "sure": noise.sure,
        "unbiased": noise.lifts_black,
    }


def _precision(prior: Prior) -> str:
    """The precision of the network's matrix products."""
    speed = getattr(getattr(prior, "prior", prior), "speed", None)
    dtype = getattr(speed, "dtype", None) or prior.dtype
    return str(dtype).removeprefix("torch.")


def _settings(solver: Solver) -> dict[str, Any]:
    return {f.name: getattr(solver, f.name) for f in dataclasses.fields(solver)}  # pyright: ignore[reportArgumentType]
