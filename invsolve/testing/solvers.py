"""Checks of solvers: `check_solver(my_solver).raise_if_failed()`, or `invsolve check my_module:MySolver`."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.core.checks import CapabilityError, InputError, InvsolveError
from invsolve.core.driver import Progress, solve
from invsolve.core.problem import Problem
from invsolve.core.result import Result
from invsolve.core.rng import Rng
from invsolve.core.schedule import CosineSchedule, DDPMSchedule, FlowSchedule, Schedule, VESchedule, VPSchedule
from invsolve.core.solver import Solver, State
from invsolve.costs.gaussian import GaussianLikelihood
from invsolve.operators.resize import SuperResolution
from invsolve.priors.exact import GaussianPrior
from invsolve.priors.network import NetworkPrior
from invsolve.testing import diagnoses
from invsolve.testing.report import Report

__all__ = ["check_solver", "small_prior", "small_problem"]

SHAPE, ITEMS = (3, 4, 4), 3
OTHERS = "samples see each other: a sum, norm, mean or stopping rule runs over the batch, or a draw is not the rng's"
SCHEDULES: Mapping[str, Callable[[], Schedule]] = {
    "DDPM": DDPMSchedule,
    "VP": VPSchedule,
    "VE": lambda: VESchedule(10.0, 0.01),
    "cosine": CosineSchedule,
    "flow": FlowSchedule,
}


def check_solver(
    solver: Solver,
    *,
    problem: Problem | None = None,
    seed: int = 0,
    tol: float = 1e-9,
    skip: Collection[str] = (),
) -> Report:
    """Check that a solver keeps the guarantees of `solve`; each failure names the likely cause.

    A sample does not depend on the other samples of its batch, on their order or on the chunk size. A step does not
    modify its state, and gives the same result when it is repeated. An interrupted run resumes bit for bit. Torch's
    global generator is not used. An item whose numbers overflow ends with a status and does not affect the others.
    The weights of a network stay frozen. Every kind of schedule is supported or refused with an error message, and so
    is a problem that lacks what the solver needs. The solver works in single precision and on a GPU, if there is one.

    Args:
        solver: the solver to check, with settings for few steps: it runs about 25 times.
        problem: three items or more in float64; if not given, images of 3 x 4 x 4 pixels with a Gaussian prior,
            measured by 2x super-resolution with Gaussian noise.
        seed: the seed of the noise.
        tol: absolute difference allowed between two runs of one sample, in [0, 1] units.
        skip: names of checks to leave out of the report.

    Returns:
        A report: `report.passed`, `report.failures`, `report.raise_if_failed()`, and `print(report)` for a list.
    """
    probe = _Probe(solver, problem or small_problem(), seed, tol)
    report = probe.report
    if report.attempt("runs", probe.whole):
        report.attempt("a sample does not depend on chunk, batch or order", probe.independence)
        report.attempt("steps by hand", probe.steps)
        report.attempt("an interrupted run goes on bit for bit", probe.resume)
        report.attempt("an item that overflows leaves the others alone", probe.overflow)
        report.attempt("weights stay frozen", probe.weights)
        report.attempt("schedules", probe.schedules)
        report.attempt("precisions and devices", probe.moves)
        report.attempt("settings", probe.settings)
    report.attempt("says what it needs", probe.needs)
    return report.without(skip)


def small_prior(schedule: Schedule | None = None) -> GaussianPrior:
    """A Gaussian prior of [3, 4, 4] images with correlated pixels of standard deviation near 0.2."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(48, 48, generator=generator, dtype=torch.float64))[0]
    cov = turn * torch.linspace(0.01, 0.08, 48, dtype=torch.float64) @ turn.T
    mean = torch.linspace(0.3, 0.7, 48, dtype=torch.float64).view(SHAPE)
    return GaussianPrior(mean, cov, schedule, (0.0, 1.0))


def small_problem() -> Problem:
    """Three images drawn from `small_prior`, measured by 2x super-resolution with a noise level of 0.05."""
    prior, operator = small_prior(), SuperResolution(SHAPE, 2)
    clean = prior.sample(ITEMS, Rng(1))
    y = GaussianLikelihood(operator, None, 0.05).simulate(clean, Rng(2))
    return Problem(prior, GaussianLikelihood(operator, y, 0.05))


class _Probe:
    """A solver, a problem, the samples of the reference run, and the report."""

    def __init__(self, solver: Solver, problem: Problem, seed: int, tol: float) -> None:
        self.solver, self.problem, self.seed, self.tol = solver, problem, seed, tol
        self.report = Report(repr(solver))
        self.samples = torch.empty(0)

    def run(self, problem: Problem | None = None, **options: Any) -> Result:
        return solve(problem or self.problem, self.solver, **{"samples": 2, "seed": self.seed, **options})

    def part(self, rows: list[int]) -> Problem:
        return self.problem.select(torch.tensor(rows))

    def whole(self) -> bool:
        """Make the reference run that the other runs are compared with."""
        state = torch.get_rng_state()
        result = self.run()
        quiet = torch.equal(state, torch.get_rng_state())
        self.report.fact("global generator untouched", quiet, "draw from the rng that a step is given")
        self.samples = result.samples
        told = "; ".join(dict.fromkeys(sentence for row in result.status for sentence in row))
        finite = bool(torch.isfinite(self.samples).all())
        self.report.fact("the same again", torch.equal(self.run().samples, self.samples), OTHERS)
        return self.report.fact("finite samples", finite and result.ok, told)

    def independence(self) -> None:
        """Compare with runs in chunks, of single items and in another order."""
        n, name = len(self.samples), "a sample does not depend on "
        for size in (1, 2 * n - 1):
            error = self.gap(self.run(microbatch=size).samples, self.samples)
            self.report.error(f"{name}the chunk ({size})", error, self.tol, OTHERS)
        alone = self.run(self.part([0]), samples=1).samples
        self.report.error(f"{name}its batch", self.gap(alone, self.samples[:1, :1]), self.tol, OTHERS)
        turned = self.run(self.part([n - 1, 0]), items=[n - 1, 0]).samples
        self.report.error(f"{name}its place", self.gap(turned, self.samples[[n - 1, 0]]), self.tol, OTHERS)

    def steps(self) -> None:
        """Call `init` and `step` directly: they modify nothing, count steps, and keep shapes."""
        problem, n = self.problem.on_prior(), len(self.samples)
        with torch.no_grad():
            state = self.solver.init(problem, n, Rng(self.seed, [(i, 0) for i in range(n)]))
            before = _copied(state)
            ends = [self.solver.step(problem, state, Rng(self.seed + 1)) for _ in range(2)]
        told = "a step wrote into its state: clone it first"
        self.report.fact("a step leaves its state alone", _equal(state, before), told)
        same = _equal(ends[0][0], ends[1][0])
        self.report.fact("a step taken again gives the same", same, "something is remembered outside the state")
        self.report.fact("counts its steps", ends[0][0].k == state.k + 1, "return State(x, state.k + 1, ...)")
        self.report.fact(
            "the state keeps its shape", ends[0][0].x.shape == state.x.shape, f"{list(ends[0][0].x.shape)}"
        )
        rows = [value.shape[:1] == (n,) for value in ends[0][0].memory.values()]
        self.report.fact("memory has a row for each sample", all(rows), "memory holds tensors [N, ...]")
        wanted = self.problem.state_shape
        self.report.fact("an estimate at each step", tuple(ends[0][1].x0.shape) == (n, *wanted), "Info(x0) is [N, ...]")

    def resume(self) -> None:
        """Interrupt a run in its second chunk, then resume it."""
        name, size = "an interrupted run goes on bit for bit", len(self.samples) + 1
        whole = self.run(microbatch=size)
        last = self.solver.steps(self.problem)

        def interrupt(progress: Progress) -> None:
            if progress.chunk == 1 and progress.step == max(1, last // 2):
                raise KeyboardInterrupt

        with tempfile.TemporaryDirectory() as folder:
            options = {"microbatch": size, "checkpoint": Path(folder) / "run.pt", "checkpoint_seconds": 0.0}
            with contextlib.suppress(KeyboardInterrupt):
                self.run(callbacks=[interrupt], **options)
            again = self.run(**options)
        same = torch.equal(again.samples, whole.samples) and torch.equal(
            again.energy.nan_to_num(), whole.energy.nan_to_num()
        )
        self.report.fact(name, same, "what the next step needs must be in the state: x, theta and memory")
        calls = again.stats.network_forwards == whole.stats.network_forwards
        self.report.fact("network calls are counted over an interruption", calls)

    def overflow(self) -> None:
        """Give one item a measurement so large that its square overflows."""
        cost = self.problem.cost
        if not isinstance(cost, GaussianLikelihood):
            self.report.notes.append("no Gaussian likelihood here: overflow was not checked")
            return
        y = cost.measurement.clone()
        y[1] = torch.finfo(y.dtype).max / 4
        result = self.run(dataclasses.replace(self.problem, cost=GaussianLikelihood(cost.operator, y, cost.sigma)))
        others = [row for row in range(len(y)) if row != 1]
        error = self.gap(result.samples[others], self.samples[others])
        self.report.error("an item that overflows leaves the others alone", error, self.tol, OTHERS)
        well = all(sentence == "ok" for row in others for sentence in result.status[row])
        self.report.fact("the others end well", well, "a check runs over the batch")

    def weights(self) -> None:
        """Run with a small network whose weights require gradients."""
        if self.problem.state_shape[0] != SHAPE[0]:
            self.report.notes.append("images without three channels: frozen weights were not checked")
            return
        module = _Timeless().double().train()
        prior = NetworkPrior(module, "eps", shape=self.problem.state_shape)
        self.run(dataclasses.replace(self.problem, prior=prior).select(torch.tensor([0])), samples=1)
        frozen = all(not p.requires_grad and p.grad is None for p in module.parameters())
        self.report.fact("weights stay frozen", frozen and not module.training, "the network is not trained here")

    def schedules(self) -> None:
        """Check for finite samples on each kind of schedule, or an error message that says why it is refused."""
        if self.problem.state_shape != SHAPE:
            self.report.notes.append(f"images other than {list(SHAPE)}: other schedules were not checked")
            return
        for name, make in SCHEDULES.items():
            problem = dataclasses.replace(self.problem, prior=small_prior(make())).select(torch.tensor([0]))
            try:
                result = self.run(problem, samples=1)
            except (CapabilityError, InputError) as error:
                self.report.notes.append(f"{name} schedule refused: {error}")
                continue
            finite = bool(torch.isfinite(result.samples).all()) and result.ok
            self.report.fact(f"finite samples on a {name} schedule", finite, "; ".join(result.status[0]))

    def moves(self) -> None:
        """Run in single precision, and on a GPU if there is one."""
        if self.problem.state_shape != SHAPE:
            return
        single = self.run(self._with_network(torch.float32)).samples
        precise = single.dtype == torch.float32 and bool(torch.isfinite(single).all())
        self.report.fact("follows the prior's precision", precise, f"float32 expected, got {single.dtype}")
        if not torch.cuda.is_available():
            self.report.notes.append(diagnoses.NO_ACCELERATOR)
            return
        near, far = (self.run(self._with_network(torch.float64, device)).samples for device in ("cpu", "cuda"))
        self.report.error("the same on the accelerator", self.gap(far.cpu(), near), 1e-4, diagnoses.DEVICE)

    def _with_network(self, dtype: torch.dtype, device: str = "cpu") -> Problem:
        prior = NetworkPrior(_Timeless().to(device, dtype), "eps", shape=self.problem.state_shape)
        return dataclasses.replace(self.problem, prior=prior)

    def settings(self) -> None:
        """Check that the solver is a frozen dataclass that can be made again from its fields."""
        solver: Any = self.solver
        frozen = dataclasses.is_dataclass(solver) and type(solver).__dataclass_params__.frozen  # pyright: ignore
        if not self.report.fact("a frozen dataclass", frozen, "decorate it with @dataclass(frozen=True)"):
            return
        values = {field.name: getattr(solver, field.name) for field in dataclasses.fields(solver)}
        self.report.fact("made again from its settings", repr(type(solver)(**values)) == repr(solver))
        told = "give name, cite and needs as attributes of the class"
        self.report.fact("has a name and a source", bool(self.solver.name and self.solver.cite), told)

    def needs(self) -> None:
        """Check that a problem without a cost is solved or refused as `needs` declares."""
        free = dataclasses.replace(self.problem, cost=None)
        try:
            self.run(free, samples=1)
        except InvsolveError:
            refused = True
        else:
            refused = False
        needs = self.solver.needs
        wanted = needs.cost or needs.likelihood or needs.linear or needs.svd
        self.report.fact("says what it needs", refused == wanted, "declare `needs = Needs(...)`")

    def gap(self, got: Tensor, want: Tensor) -> float:
        return float((got - want).abs().max()) if got.shape == want.shape else float("inf")


class _Timeless(nn.Module):
    """A convolution with fixed weights that ignores the time."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 3, padding=1)
        ramp = torch.linspace(-0.1, 0.1, self.inner.weight.numel())
        self.inner.weight.data.copy_(ramp.view_as(self.inner.weight))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.inner(x)


def _copied(state: State) -> State:
    theta, memory = ({key: value.clone() for key, value in part.items()} for part in (state.theta, state.memory))
    return State(state.x.clone(), state.k, theta, memory)


def _equal(a: State, b: State) -> bool:
    pairs = [
        (a.x, b.x),
        *((part[key], other[key]) for part, other in ((a.theta, b.theta), (a.memory, b.memory)) for key in part),
    ]
    return a.k == b.k and all(torch.equal(x, y) for x, y in pairs)
