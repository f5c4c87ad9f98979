"""Checks of priors: `check_prior(my_prior).raise_if_failed()`, or `invsolve priors check PRIOR`.

A wrongly declared prior still runs. Two numbers at each noise level reveal it, from real images x0 and noise n:

    measured error    |D(x_t) - x0|^2 against (sigma / alpha)^2 |n|^2
    slope             <n, e> / <e, e>,    e = (x_t - alpha D(x_t)) / sigma

The slope is 1 for a network that was trained on such images, whatever they are, because E[n | x_t] is orthogonal to its
own error; then the error predicted from the network's output alone, (sigma / alpha)^2 (|n|^2 - |e|^2), equals the
measured error. If another interpretation of the same network (range, parametrisation, schedule, index) does clearly
better, the report names it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.prior import Prior
from invsolve.core.schedule import DDPMSchedule
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.networks.execution import Network, Speed
from invsolve.testing.images import natural_images
from invsolve.testing.readings import network_of, readings, reread
from invsolve.testing.report import Report

__all__ = ["check_prior"]

LEVELS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Noise levels sigma / alpha at which a prior is checked, in [-1, 1] units."""

SLOPE, REMOVED, PLAINLY, CROOKED = 0.35, 0.6, 0.15, 0.12
"""The allowed |log slope|; the allowed share of the noise left at level 0.5; how much lower the log error of another
interpretation must be to count; the |log slope| above which another interpretation that halves it counts."""


@dataclass(frozen=True)
class _Reading:
    """Results of a prior over noise levels: mean log of error over noise, log slopes, share of noise left at 0.5."""

    error: float
    slopes: tuple[float, ...]
    left: float

    @property
    def worst(self) -> float:
        """The largest |log slope|; NaN counts as infinite."""
        return max((abs(s) if math.isfinite(s) else math.inf for s in self.slopes), default=math.inf)


@torch.no_grad()
def check_prior(
    prior: Prior, images: Tensor | None = None, *, label: Any = None, half: bool = True, seed: int = 0
) -> Report:
    """Check that a prior matches its declaration and has the properties that solvers rely on.

    Args:
        prior: the prior to check.
        images: [N, C, H, W] in [0, 1], like the training images; photographs of the package if None.
        label: the class of these images, for a class-conditional prior; 0 if None.
        half: whether to check bfloat16 and float16 as well.
        seed: the seed of the noise.

    Returns:
        A report: `report.passed`, `report.failures`, `report.raise_if_failed()`, and `print(report)` for a list.
    """
    report = Report(repr(prior))
    labelled = _labels(prior, report)
    if labelled is not None and not prior.items:
        prior = prior.given(label=0 if label is None else label)
    x0 = _clean(prior, natural_images(prior) if images is None else images)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(x0)
    if not _runs(prior, x0, noise, report):
        return report
    _state(prior, x0, noise, report)
    _declaration(prior, x0, noise, report)
    if half:
        _precisions(prior, x0, noise, report)
    return report


def _clean(prior: Prior, images: Tensor) -> Tensor:
    low, high = prior.value_range
    x = images.to(device=prior.device, dtype=prior.dtype) * (high - low) + low
    return prior.encode(x)


def _at(prior: Prior, level: float) -> float:
    """Return the time of a noise level in [-1, 1] units, rounded to an entry of the DDPM table if there is one."""
    width = 2.0 if prior.latent else prior.value_range[1] - prior.value_range[0]
    t = prior.schedule.time_of(level * width / 2)
    if isinstance(prior.schedule, DDPMSchedule):
        t = (prior.schedule.index(t) + 1) / prior.schedule.n_times
    return t


def _measure(prior: Prior, x0: Tensor, noise: Tensor, times: list[float]) -> _Reading:
    errors, slopes, left = [], [], math.inf
    for t in times:
        alpha, sigma = prior.schedule(t)
        prediction = prior.predict(alpha * x0 + sigma * noise, t)
        ratio = float((prediction.x0 - x0).square().sum() / (noise.square().sum() * (sigma / alpha) ** 2))
        e = (alpha * (x0 - prediction.x0) + sigma * noise) / sigma
        slope = float((noise * e).sum() / e.square().sum())
        errors.append(math.log(ratio) if 0 < ratio < math.inf else math.inf)
        slopes.append(math.log(slope) if 0 < slope < math.inf else math.inf)
        left = ratio if t == _at(prior, 0.5) else left
    return _Reading(sum(errors) / len(errors), tuple(slopes), left)


def _labels(prior: Prior, report: Report) -> ConditionalPrior | None:
    """Return the class-conditional prior, if it is one, and check that its label reaches the network."""
    network = network_of(prior)
    if not isinstance(network, ConditionalPrior):
        return None
    shape = network.shape or (3, 64, 64)
    x = torch.randn((2, *shape), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x.to(device=network.device, dtype=network.dtype)
    t = _at(network, 1.0)
    outs = [network.given(label=k).denoise(x, t) for k in (0, network.n_classes - 1)]
    report.fact("label reaches the network", not torch.equal(*outs), "label ignored: two classes give the same output")
    return network


def _runs(prior: Prior, x0: Tensor, noise: Tensor, report: Report) -> bool:
    t = _at(prior, 0.5)
    alpha, sigma = prior.schedule(t)
    try:
        out = prior.predict(alpha * x0 + sigma * noise, t)
    except (InputError, RuntimeError, ValueError, TypeError) as error:
        return report.fact("runs", False, f"{type(error).__name__}: {error}")
    right = report.fact("output shape", out.x0.shape == x0.shape, f"{list(x0.shape)} in, {list(out.x0.shape)} out")
    finite = report.fact(
        "finite", bool(torch.isfinite(out.x0).all() & torch.isfinite(out.eps).all()), "NaN or infinity"
    )
    return right and finite


def _state(prior: Prior, x0: Tensor, noise: Tensor, report: Report) -> None:
    t = _at(prior, 0.5)
    alpha, sigma = prior.schedule(t)
    x_t = alpha * x0 + sigma * noise
    network = network_of(prior)
    if network is not None:
        training = [name or "the network" for name, m in network.module.named_modules() if m.training]
        detail = f"train mode: {', '.join(training[:3])}; call module.eval()"
        report.fact("evaluation mode", not training, detail)
        report.fact(
            "weights frozen", not any(p.requires_grad for p in network.module.parameters()), "they take gradients"
        )
    generator = torch.get_rng_state()
    first, second = prior.denoise(x_t, t), prior.denoise(x_t, t)
    report.fact("deterministic", torch.equal(first, second), "two calls differ: dropout or other noise in the network")
    report.fact("global generator untouched", torch.equal(generator, torch.get_rng_state()), "it drew random numbers")
    alone = prior.select(torch.tensor([0])).denoise(x_t[:1], t)
    report.error("samples independent of their batch", _relative(alone, first[:1]), 1e-3)
    with torch.enable_grad():
        leaf = x_t[:1].clone().requires_grad_()
        (grad,) = torch.autograd.grad(prior.select(torch.tensor([0])).denoise(leaf, t).sum(), leaf)
    report.fact("gradient to the input", bool(torch.isfinite(grad).all()) and bool(grad.any()), "none, or not finite")


def _declaration(prior: Prior, x0: Tensor, noise: Tensor, report: Report) -> None:
    """Check the error and the slope of the declared prior, and look for other interpretations that do better."""
    times = [_at(prior, level) for level in LEVELS]
    if isinstance(prior.schedule, DDPMSchedule):
        times = [*((k + 1) / prior.schedule.n_times for k in (1, 2)), *times]
    declared = _measure(prior, x0, noise, times)
    cause = _cause(prior, x0, noise, times, declared)
    detail = cause or "no single mistake explains it: give images of the kind it was trained on"
    broad = _Reading(declared.error, declared.slopes[-len(LEVELS) :], declared.left)
    report.error("share of the noise that is left", declared.left, REMOVED, detail if declared.left > REMOVED else "")
    report.error("measured error as predicted", broad.worst, SLOPE, detail if broad.worst > SLOPE else "")
    report.fact("declared as it was trained", cause is None, cause or "")


def _cause(prior: Prior, x0: Tensor, noise: Tensor, times: list[float], declared: _Reading) -> str | None:
    """Describe the interpretation that does clearly better than the declared one, if there is one."""
    best: tuple[float, str] | None = None
    for name, other in readings(prior):
        clean, times_there = x0, times
        if other.value_range != prior.value_range:
            low, high = prior.value_range
            scale = (other.value_range[1] - other.value_range[0]) / (high - low)
            clean = (x0 - low) * scale + other.value_range[0]
        if other.schedule is not prior.schedule or other.value_range != prior.value_range:
            times_there = [_at(other, _level(prior, t)) for t in times]
        try:
            reading = _measure(other, clean, noise, times_there)
        except (RuntimeError, ValueError, IndexError):
            continue  # the network does not accept such a condition
        if reading.error > math.log(REMOVED):
            continue  # it does not denoise these images either, so it explains nothing
        gain = declared.error - reading.error
        straighter = declared.worst > CROOKED and reading.worst < 0.5 * declared.worst and gain > -0.02
        if gain > PLAINLY or straighter:
            score = (gain if math.isfinite(gain) else 1e9) + min(declared.worst, 1e3) - min(reading.worst, 1e3)
            if best is None or score > best[0]:
                best = (score, name)
    return None if best is None else f"likely cause: {best[1]}"


def _level(prior: Prior, t: float) -> float:
    alpha, sigma = prior.schedule(t)
    return sigma / alpha * 2.0 / (2.0 if prior.latent else prior.value_range[1] - prior.value_range[0])


def _precisions(prior: Prior, x0: Tensor, noise: Tensor, report: Report) -> None:
    network = network_of(prior)
    if network is None or prior.dtype == torch.float64:
        return
    t = _at(network, 0.5)
    alpha, sigma = network.schedule(t)
    x_t = alpha * x0[:1] + sigma * noise[:1]
    own = network.select(torch.tensor([0]))
    exact = own.predict(x_t, t).eps
    for dtype, limit in ((torch.bfloat16, 0.1), (torch.float16, 0.03)):
        name = str(dtype).removeprefix("torch.")
        half = reread(own, _network=Network(network.module, Speed(dtype=dtype), network.device))
        eps = half.predict(x_t, t).eps
        if report.fact(f"finite in {name}", bool(torch.isfinite(eps).all()), f"NaN or infinity: do not use {name}"):
            report.error(f"{name} against float32", _relative(eps, exact), limit)


def _relative(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b).clamp_min(1e-30))
