"""`solve`, the loop that runs a solver: chunks, randomness, callbacks, checkpoints, failures, network call counts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from invsolve.core.checkpoint import Checkpoint
from invsolve.core.checks import InputError, plain_integer, whole_seed
from invsolve.core.context import own_context
from invsolve.core.counting import Calls
from invsolve.core.identity import run_identity
from invsolve.core.linalg import column
from invsolve.core.microbatch import rows_that_fit
from invsolve.core.problem import Problem
from invsolve.core.result import Result, collected
from invsolve.core.rng import Ahead, NoiseSource, Rng
from invsolve.core.solver import Info, Solver, State

__all__ = ["Progress", "solve"]


@dataclass(frozen=True)
class Progress:
    """The progress of a run, passed to callbacks after every step.

    Attributes:
        step, n_steps: number of completed steps, and of all steps, of this chunk of rows.
        chunk, n_chunks: index of the chunk (from 0) and number of chunks.
        rows: the rows of the chunk among all B * S rows, ordered by item.
        state, info: the solver's state and info for these rows. They are copies, so changes to them do not affect the
            run.
    """

    step: int
    n_steps: int
    chunk: int
    n_chunks: int
    rows: range
    _state: State
    _info: Info

    @cached_property
    def state(self) -> State:
        x, theta, memory = self._state.x, self._state.theta, self._state.memory
        return replace(self._state, x=x.detach().clone(), theta=_copied(theta), memory=_copied(memory))

    @cached_property
    def info(self) -> Info:
        x0, energy, extra = self._info.x0, self._info.energy, self._info.extra
        energy = None if energy is None else energy.detach().clone()
        return Info(x0.detach().clone(), energy, _copied(extra))


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}


Callback = Callable[[Progress], None]


@dataclass(frozen=True)
class _Run:
    """The state of a running chunk: the solver's state and the driver's record of each row."""

    state: State
    estimate: Tensor  # the last finite clean estimate of each row
    failed: Tensor  # step at which the row became non-finite, -1 if it has not
    well: bool = True  # no row has failed as far as the host knows


@own_context()
def solve(
    problem: Problem,
    solver: Solver,
    *,
    samples: int = 1,
    seed: int = 0,
    items: Sequence[Hashable] | None = None,
    callbacks: Sequence[Callback] = (),
    microbatch: int | Literal["auto"] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 10.0,
    rng: NoiseSource | None = None,
    antithetic: bool = False,
) -> Result:
    """Draw posterior samples (or find point estimates) with a solver.

    Args:
        problem: prior and cost; B is the number of its measurements.
        solver: the method.
        samples: S, the number of samples for each measurement.
        seed: seed of the noise; the stream of a sample is hash(seed, item, sample).
        items: a name for each measurement; its position if not given. An item with a name gets the same noise in any
            batch.
        callbacks: called after every step.
        microbatch: number of rows (of the B * S) that run together; all of them if not given. "auto" uses as many as
            fit into the free memory of a GPU, measured on one row, and all of them on a CPU. The samples do not depend
            on it.
        checkpoint: a file from which an interrupted run resumes, bit for bit. It remains after the run and then holds
            the result. If it cannot be written during the run, a warning says so and the run continues.
        checkpoint_seconds: time between two writes of the checkpoint.
        rng: a noise source instead of `seed`, for replays; requires a single chunk.
        antithetic: draw samples in pairs; the second sample of a pair uses the noise of the first with the opposite
            sign. Each sample has the same distribution as without this option, but the deviations of a pair nearly
            cancel, so the mean of few samples is closer to the mean of many (for diffusion models Jia et al. 2025,
            arXiv 2506.06185). The samples are not independent: scores and tests that assume independent samples do not
            apply.

    Raises:
        CapabilityError: the solver needs something the problem does not have.
        InputError: the sizes are invalid; or the checkpoint belongs to another run, or to one whose parts cannot be
            identified. Lambdas, closures and objects without state of their own take a `key`, see
            `invsolve.core.identity`.
    """
    seed = whole_seed(seed)
    if not isinstance(solver, Solver):
        raise InputError(f"solve takes a solver such as solvers.NDTM(), got {solver!r}")
    solver.needs.check(problem, type(solver).__name__)
    n_items = problem.items
    items = list(range(n_items)) if items is None else [plain_integer(item) for item in items]
    _check_sizes(n_items, samples, items, microbatch)
    problem = problem.on_prior()
    keys = [(item, s // 2 if antithetic else s) for item in items for s in range(samples)]
    mirrored = [antithetic and s % 2 == 1 for _ in items for s in range(samples)]
    if microbatch == "auto":
        if checkpoint is not None:
            raise InputError('a checkpoint needs a fixed chunk size: give a number instead of microbatch="auto"')
        microbatch = rows_that_fit(problem, solver, len(keys))
    size = min(microbatch or len(keys), len(keys))
    chunks = [range(a, min(a + size, len(keys))) for a in range(0, len(keys), size)]
    if rng is not None and (len(chunks) > 1 or checkpoint is not None):
        raise InputError("an explicit noise source (rng=) needs a single chunk and no checkpoint")
    if rng is not None and antithetic:
        raise InputError("antithetic pairs are drawn from a seed: omit rng=")
    mark = "" if checkpoint is None else run_identity(problem, solver, seed, keys, size)
    store = Checkpoint(checkpoint, mark, checkpoint_seconds, [len(rows) for rows in chunks])
    outputs: list[dict[str, Tensor]] = store.finished
    for c in range(len(outputs), len(chunks)):
        rows = chunks[c]
        calls = Calls()
        whole = samples == 1 and len(chunks) == 1
        part = problem if whole else problem.select(torch.tensor([row // samples for row in rows]))
        part = replace(part, prior=part.prior.counted(calls))
        own = slice(rows.start, rows.stop)
        noise = rng if rng is not None else _noise(Rng(seed, keys[own], mirrored=mirrored[own]), problem.prior.device)

        def report(state: State, info: Info, total: int, c: int = c, rows: range = rows) -> None:
            for callback in callbacks:
                callback(Progress(state.k, total, c, len(chunks), rows, state, info))

        with noise if isinstance(noise, Ahead) else nullcontext():
            outputs.append(_run_chunk(part, solver, len(rows), noise, calls, store, report))
        store.finish_chunk(outputs)
    return collected(problem, solver, outputs, (n_items, samples), seed if rng is None else None, mark)


def _noise(rng: Rng, device: torch.device) -> NoiseSource:
    """The noise source; drawn ahead for a GPU, so that the GPU does not wait for each draw and its copy."""
    return Ahead(rng) if device.type == "cuda" else rng


@torch.no_grad()
def _run_chunk(
    problem: Problem,
    solver: Solver,
    n: int,
    rng: NoiseSource,
    calls: Calls,
    store: Checkpoint,
    report: Callable[[State, Info, int], None],
) -> dict[str, Tensor]:
    """Run the solver on one chunk of rows, from its start or from the checkpoint."""
    began, spent, total = time.perf_counter(), 0.0, solver.steps(problem)
    saved = store.pending()
    if saved is None:
        state = solver.init(problem, n, rng)
        run = _Run(state, torch.full_like(state.x, torch.nan), torch.full((n,), -1, device=state.x.device))
    else:
        state = State(saved["x"], int(saved["k"]), saved["theta"], saved["memory"])
        run = _Run(state, saved["estimate"], saved["failed"], well=False)
        rng.restore(saved["rng"])
        calls.forward_rows, calls.backward_rows = int(saved["forwards"]), int(saved["backwards"])
        spent = float(saved["seconds"])
    while run.state.k < total:
        state, info = solver.step(problem, run.state, rng)
        run = _watch(run, state, info, calls)
        report(state, info, total)
        if store.due():
            store.save(
                x=state.x, k=state.k, theta=dict(state.theta), memory=dict(state.memory),
                estimate=run.estimate, failed=run.failed, rng=rng.state(), forwards=calls.forward_rows,
                backwards=calls.backward_rows, seconds=spent + time.perf_counter() - began,
            )  # fmt: skip
    well = column(run.failed < 0, run.state.x)
    final = torch.where(well, run.state.x, run.estimate)
    energy = problem.energy(final, run.state.theta) if problem.cost is not None else final.new_full((n,), torch.nan)
    images = problem.to_image(final)
    reach = images.abs().flatten(1).amax(1)
    if problem.prior.latent:  # a decoder may hide that its latents diverged
        reach = torch.maximum(reach, final.abs().flatten(1).amax(1))
    return {
        "samples": images.cpu(),
        "reach": reach.cpu(),
        "failed": run.failed.cpu(),
        "energy": energy.cpu(),
        "calls": torch.tensor([calls.forward_rows, calls.backward_rows]),
        "seconds": torch.tensor(spent + time.perf_counter() - began),
        **{f"theta.{name}": value.cpu() for name, value in problem.theta(run.state.theta).items()},
    }


def _watch(run: _Run, state: State, info: Info, calls: Calls) -> _Run:
    """Record the step at which rows became non-finite, and keep their last finite estimate.

    On a CPU a finiteness check on the host skips the bookkeeping while all rows are finite. On other devices the
    bookkeeping stays on the device, so that no step waits for it.
    """
    if run.well and state.x.is_cpu and _finite(state, info, calls):
        return _Run(state, info.x0, run.failed)
    finite = torch.isfinite(state.x.flatten(1).sum(1) + info.x0.flatten(1).sum(1))
    for value in state.theta.values():
        finite = finite & torch.isfinite(value.flatten(1).sum(1))
    failed = torch.where((run.failed < 0) & ~finite, state.k, run.failed)
    return _Run(state, torch.where(column(failed < 0, info.x0), info.x0, run.estimate), failed, well=False)


def _finite(state: State, info: Info, calls: Calls) -> bool:
    """Whether the sums of all tensors are finite. An overflow of finite values only triggers the exact check."""
    found = state.x.sum().item()
    if info.x0 is not state.x and info.x0 is not calls.finite:
        found += info.x0.sum().item()
    for value in state.theta.values():
        found += value.sum().item()
    return math.isfinite(found)


def _check_sizes(
    n_items: int, samples: int, items: Sequence[Hashable], microbatch: int | Literal["auto"] | None
) -> None:
    if n_items < 1:
        raise InputError("the problem has no measurement: y must have at least one row")
    for name, value in (("samples", samples), ("microbatch", None if microbatch == "auto" else microbatch)):
        if value is not None and (not isinstance(value, Integral) or value < 1):
            raise InputError(f"{name} must be a whole number of at least 1, got {value}")
    if len(items) != n_items:
        raise InputError(f"items must name each of the {n_items} measurements, got {len(items)} names")
    if len(set(items)) != n_items:
        raise InputError("items must be different from each other: equal names would share their noise")
