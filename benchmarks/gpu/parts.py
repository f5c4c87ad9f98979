"""The parts of the measurement: each returns rows, and names what it left out for lack of time or memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import invsolve as iv
from benchmarks.gpu.machinery import Clock, peak_of, seconds_of
from benchmarks.networks import forward, gradient, random_network
from invsolve import costs, operators, priors, solvers
from invsolve.priors.networks.adm_config import ADMConfig
from invsolve.testing.toy import white

__all__ = ["OPTIONS", "PUBLISHED", "agreement", "budgets", "calls", "steps"]

OPTIONS: Mapping[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16, channels last": {"dtype": "bfloat16", "channels_last": True},
    "bfloat16, channels last, recomputed": {"dtype": "bfloat16", "channels_last": True, "checkpointing": True},
    "bfloat16, channels last, compiled": {"dtype": "bfloat16", "channels_last": True, "compile": True},
}
"""Ways of running a network, see `Speed`. Compiled networks take a minute each and come last."""

BEST = "bfloat16, channels last"

PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "FFHQ, 94 million": {"dps": 199, "red-diff": 5.8, "c-pigdm": 3.7, "ddrm": 1.3, "ndtm": 13.6},
    "ImageNet, 553 million": {"dps": 399, "red-diff": 7.1, "c-pigdm": 16.4, "ddrm": 2.4, "ndtm": 38.3},
}
"""Seconds per image for super-resolution x4 in the NDTM paper (arXiv 2502.03686), measured on another GPU."""

SETS = {"FFHQ, 94 million": "ffhq256", "ImageNet, 553 million": "imagenet256"}

FEW = {
    "n_steps": 5,
    "n_inner": 2,
    "n_iterations": 4,
    "n_draws": 2,
    "n_candidates": 2,
    "n_particles": 2,
    "n_langevin": 2,
}
"""Settings that make every solver fast."""


def agreement(device: torch.device, clock: Clock) -> list[dict[str, Any]]:
    """Compare every solver's result on a small problem on the device with that on the CPU, for the same noise."""
    rows = []
    for name in solvers.SOLVERS:
        if clock.left < 0:
            rows.append({"solver": name, "left out": "no time"})
            continue
        kind = solvers.SOLVERS[name]
        few = {f.name: FEW[f.name] for f in dataclasses.fields(kind) if f.name in FEW}
        places = (torch.device("cpu"), device)
        found = [iv.solve(_small(at), kind(**few), samples=2, seed=0, microbatch="auto") for at in places]
        cpu, other = (result.samples for result in found)
        rows.append({
            "solver": name,
            "largest difference": (cpu - other).abs().max().item(),
            "status": sorted({s for result in found for row in result.status for s in row}),
        })  # fmt: skip
    return rows


def _small(device: torch.device) -> iv.Problem:
    """Inpainting of images of 16 x 16 under a prior of white noise."""
    prior = white()
    prior = priors.NetworkPrior(prior.module.to(device), "edm", prior.schedule, (-1.0, 1.0), shape=(3, 16, 16))
    generator = torch.Generator().manual_seed(0)
    operator = operators.Inpainting((3, 16, 16), torch.rand(16, 16, generator=generator) > 0.4)
    y = operator(torch.rand(2, 3, 16, 16, generator=generator))
    return iv.Problem(prior, costs.GaussianLikelihood(operator, y, 0.05))


def calls(
    configs: Mapping[str, ADMConfig], device: torch.device, batches: tuple[int, ...], clock: Clock, limit: float
) -> list[dict[str, Any]]:
    """Forward pass and input-gradient for each network, option and batch: time and peak memory."""
    rows = []
    for name, config in configs.items():
        module = random_network(config, device)
        for option, speed in OPTIONS.items():
            for batch in batches if not speed.get("compile") else batches[:1]:
                row: dict[str, Any] = {"network": name, "option": option, "batch": batch}
                rows.append(row)
                if speed.get("compile") and device.type != "cuda":
                    row["left out"] = "compiled on a GPU alone"
                    continue
                if clock.left < (90 if speed.get("compile") else 2):
                    row["left out"] = "no time"
                    continue
                row |= _called(module, config, speed, batch, device, limit)
        del module
    return rows


def _called(
    module: nn.Module, config: ADMConfig, speed: dict[str, Any], batch: int, device: torch.device, limit: float
) -> dict[str, Any]:
    """One row of `calls`; running out of memory is a valid result."""
    prior = _prior(module, config, speed)
    x = torch.randn(batch, *prior.shape, device=device)
    try:
        found = {
            "forward": seconds_of(lambda: forward(prior, x), device, limit),
            "gradient": seconds_of(lambda: gradient(prior, x), device, limit),
            "peak": peak_of(lambda: gradient(prior, x), device),
        }
    except torch.OutOfMemoryError:
        found = {"left out": "out of memory"}
    return found


def _prior(module: nn.Module, config: ADMConfig, speed: dict[str, Any]) -> Any:
    side = config.size or 256
    return priors.NetworkPrior(module, "eps", speed=priors.Speed(**speed), shape=(3, side, side))


def _problem(prior: Any, batch: int) -> iv.Problem:
    operator = operators.SuperResolution(prior.shape, factor=4)
    y = operator(torch.rand(batch, *prior.shape, generator=torch.Generator().manual_seed(1)))
    return iv.Problem(prior, costs.GaussianLikelihood(operator, y, 0.005)).on_prior()


def _published(solver: str, name: str) -> Any:
    """A solver with the settings published for super-resolution x4 with a network."""
    return solvers.SOLVERS[solver].preset(f"{SETS[name]}/superres4")


def steps(
    configs: Mapping[str, ADMConfig], device: torch.device, batches: tuple[int, ...], clock: Clock, limit: float
) -> list[dict[str, Any]]:
    """Time of a step of NDTM and DPS with published settings, and its share outside the network."""
    rows = []
    for name, config in configs.items():
        prior = _prior(random_network(config, device), config, OPTIONS[BEST])
        for batch in batches:
            rows.extend(_of_batch(name, prior, batch, device, clock, limit))
        del prior
    return rows


def _of_batch(
    name: str, prior: Any, batch: int, device: torch.device, clock: Clock, limit: float
) -> Iterator[dict[str, Any]]:
    for solver_name in ("dps", "ndtm"):
        row: dict[str, Any] = {"network": name, "solver": solver_name, "batch": batch}
        if clock.left < 10:
            yield {**row, "left out": "no time"}
            continue
        solver = _published(solver_name, name)
        try:
            x = torch.randn(batch, *prior.shape, device=device)
            plain = seconds_of(lambda x=x: forward(prior, x), device, limit)
            guided = seconds_of(lambda x=x: gradient(prior, x), device, limit)
            step = seconds_of(_stepper(solver, _problem(prior, batch), batch), device, limit)
        except torch.OutOfMemoryError:
            yield {**row, "left out": "out of memory"}
            continue
        # NDTM: N calls with their gradients and one without; DPS: one with its gradient
        network_seconds = solver.n_inner * guided + plain if solver_name == "ndtm" else guided
        yield {**row, "step": step, "share of overhead": 1 - network_seconds / step}


@torch.no_grad()
def _state(solver: Any, problem: iv.Problem, batch: int) -> tuple[Any, iv.Rng]:
    rng = iv.Rng(0)
    return solver.init(problem, batch, rng), rng


def _stepper(solver: Any, problem: iv.Problem, batch: int) -> Any:
    state, rng = _state(solver, problem, batch)

    @torch.no_grad()
    def step() -> Tensor:
        return solver.step(problem, state, rng)[0].x

    return step


def budgets(
    configs: Mapping[str, ADMConfig], device: torch.device, batches: tuple[int, ...], clock: Clock, limit: float
) -> list[dict[str, Any]]:
    """Seconds per image for published budgets, computed from one timed step, and the paper's seconds."""
    rows = []
    for name, config in configs.items():
        prior = _prior(random_network(config, device), config, OPTIONS[BEST])
        for solver_name, seconds in PUBLISHED[name].items():
            for batch in batches:
                row: dict[str, Any] = {"network": name, "solver": solver_name, "batch": batch, "paper": seconds}
                rows.append(row)
                if clock.left < 5:
                    row["left out"] = "no time"
                    continue
                solver = _published(solver_name, name)
                try:
                    problem = _problem(prior, batch)
                    step = seconds_of(_stepper(solver, problem, batch), device, limit)
                except (torch.OutOfMemoryError, iv.InputError) as error:
                    row["left out"] = str(error)[:200]
                    continue
                row |= {"steps": solver.steps(problem), "step": step}
                row["seconds an image"] = step * row["steps"] / batch
        del prior
    return rows
