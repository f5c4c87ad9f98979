"""The strength of guidance, and the diversity that remains: control energy, collapse, entropy deficit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.driver import Progress
from invsolve.core.linalg import row_norm
from invsolve.core.problem import Problem
from invsolve.core.schedule import Schedule, Step, VPSchedule
from invsolve.diagnostics.lines import Panel, line_figure

__all__ = [
    "ControlEnergy",
    "ControlImages",
    "EntropyDeficit",
    "collapse_figure",
    "collapse_label",
    "critical_scale",
    "deficit_figure",
    "entropy_deficit",
    "mode_entropy",
    "pairwise_distance",
]


class ControlEnergy:
    """A callback of `solve` that adds up the guidance v = lambda g of a `Guidance` run.

        paper     E   = sum_steps |v|^2 dt
        girsanov  E_G = sum_steps beta(t) |v|^2 dt / 2      the divergence of the guided from the unguided path in nats

    Args:
        steps: `solver.path(problem)`.
        schedule: a VPSchedule for E_G; without it, E_G stays NaN.
    """

    def __init__(self, steps: Sequence[Step], schedule: Schedule | None = None) -> None:
        self.steps = list(steps)
        self._beta = schedule.beta if isinstance(schedule, VPSchedule) else lambda t: math.nan
        self._paper: dict[int, Tensor] = {}
        self._girsanov: dict[int, Tensor] = {}
        self._strength: dict[int, list[Tensor]] = {}

    def __call__(self, progress: Progress) -> None:
        guidance = progress.info.extra.get("guidance")
        if guidance is None:
            raise InputError("the control energy needs a solver that reports its guidance: use Guidance")
        step, norm = self.steps[progress.step - 1], row_norm(guidance)
        energy = norm.square() * (step.t - step.s)
        start, chunk = torch.zeros_like(energy), progress.chunk
        self._paper[chunk] = self._paper.get(chunk, start) + energy
        self._girsanov[chunk] = self._girsanov.get(chunk, start) + 0.5 * self._beta(step.t) * energy
        strength = step.sigma_t * norm / math.sqrt(guidance[0].numel())
        self._strength.setdefault(chunk, []).append(strength)

    @property
    def paper(self) -> Tensor:
        """E of each sample, [N]."""
        return torch.cat([self._paper[c] for c in sorted(self._paper)])

    @property
    def girsanov(self) -> Tensor:
        """E_G of each sample, [N]."""
        return torch.cat([self._girsanov[c] for c in sorted(self._girsanov)])

    @property
    def strength(self) -> Tensor:
        """sigma_t |v| / sqrt(d), [steps, N]: the effective guidance, in units of the noise it is added to."""
        return torch.cat([torch.stack(self._strength[c]) for c in sorted(self._strength)], 1)

    def figure(self, path: str | Path) -> None:
        """Draw the effective strength and the accumulated energy over time."""
        times, strength = [s.t for s in self.steps], self.strength
        quantiles = {f"{q:.0%} of samples": strength.double().quantile(q, 1).tolist() for q in (0.1, 0.5, 0.9)}
        sigma = torch.tensor([s.sigma_t for s in self.steps], dtype=strength.dtype)
        dt = torch.tensor([s.t - s.s for s in self.steps], dtype=strength.dtype)
        total = ((strength.mean(1) / sigma).square() * dt).cumsum(0)
        lines = {label: (times, values) for label, values in quantiles.items()}
        energy = {"_": (times, total.tolist())}
        panels = [
            Panel("effective guidance strength", "t", r"$\sigma_t \|\lambda g\| / \sqrt{d}$", lines, "y"),
            Panel("energy of the mean guidance", "t", r"$\sum \|\lambda g\|^2 \Delta t\, /\, d$", energy, "y"),
        ]
        line_figure(panels, path)


class ControlImages:
    """A callback of `solve` that stores the control and the clean estimate of the first sample.

    The control is that of trajectory matching.

    Args:
        problem: the problem that the solver solves.
        shown: the largest number of steps to draw.
    """

    def __init__(self, problem: Problem, shown: int = 8) -> None:
        self.problem, self.shown = problem, shown
        self.estimates: list[Tensor] = []
        self.controls: list[Tensor] = []

    def __call__(self, progress: Progress) -> None:
        control = progress.info.extra.get("control")
        if control is None:
            raise InputError("control images need a solver that reports its control: use NDTM")
        self.controls.append(control[0].detach().cpu())
        self.estimates.append(self.problem.to_image(progress.info.x0[:1])[0].detach().cpu())

    def figure(self, path: str | Path) -> None:
        """Draw estimates above controls (mean over channels, blue below 0, with the largest value as title)."""
        from matplotlib.figure import Figure

        count = len(self.controls)
        steps = sorted({round(i * (count - 1) / max(self.shown - 1, 1)) for i in range(self.shown)})
        figure = Figure(figsize=(1.6 * len(steps), 3.8), layout="constrained")
        axes = figure.subplots(2, len(steps), squeeze=False)
        for column, k in enumerate(steps):
            estimate, control = self.estimates[k].clamp(0, 1), self.controls[k].mean(0)
            top = float(control.abs().max()) or 1.0
            axes[0, column].imshow(estimate.expand(3, -1, -1).movedim(0, -1).numpy())
            axes[1, column].imshow(control.numpy(), cmap="RdBu_r", vmin=-top, vmax=top)
            axes[0, column].set_title(f"step {k + 1}", fontsize=8)
            axes[1, column].set_title(f"|u| to {top:.2g}", fontsize=8)
        for axis in axes.flat:
            axis.set_axis_off()
        figure.savefig(path, dpi=100)


def mode_entropy(samples: Tensor, modes: Tensor) -> float:
    """Entropy of the nearest-mode occupancy over log K: 1 if all K modes [K, ...] are equally full, 0 for one mode."""
    nearest = torch.cdist(samples.flatten(1).double(), modes.flatten(1).double()).argmin(1)
    share = torch.bincount(nearest, minlength=len(modes)).double() / len(samples)
    return float(-torch.xlogy(share, share).sum() / math.log(len(modes)))


def pairwise_distance(samples: Tensor, limit: int = 1000) -> float:
    """Mean distance between two different samples, among the first `limit`."""
    return float(torch.pdist(samples.flatten(1)[:limit].double()).mean())


def collapse_label(diversity: float) -> str:
    """The collapse for a `mode_entropy`: "No" above 0.40, "Partial" down to 0.10, "Yes" below."""
    return "No" if diversity > 0.40 else "Partial" if diversity > 0.10 else "Yes"


def critical_scale(scales: Sequence[float], diversities: Sequence[float], level: float = 0.2) -> float:
    """The smallest scale at which the diversity falls below `level`, linear between points; inf if there is none."""
    points = sorted(zip(scales, diversities, strict=True))
    for (a, high), (b, low) in zip(points, points[1:], strict=False):
        if high >= level > low:
            return a + (high - level) / (high - low) * (b - a)
    return points[0][0] if points and points[0][1] < level else math.inf


def collapse_figure(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: str | Path, level: float = 0.2
) -> dict[str, float]:
    """Draw diversity over the scale, a line for each method, with the critical scale of each in the legend.

    Args:
        curves: (scales, diversities) by method.
        path: path of the image.
        level: see `critical_scale`.

    Returns:
        The critical scale of each method.
    """
    found = {label: critical_scale(*curve, level) for label, curve in curves.items()}
    ends = [min(min(s) for s, _ in curves.values()), max(max(s) for s, _ in curves.values())]
    told = {
        k: f"{k}: {f'below {level:g} from {v:.1f}' if math.isfinite(v) else 'stays above'}" for k, v in found.items()
    }
    lines = {told[label]: curve for label, curve in curves.items()}
    lines |= {"no collapse above": (ends, [0.4, 0.4]), "collapse below": (ends, [0.1, 0.1])}
    line_figure([Panel("collapse", "guidance scale", "diversity (mode entropy)", lines, "x")], path)
    return found


@dataclass(frozen=True)
class EntropyDeficit:
    """Quantities of the tilted distribution q ~ p r^lam in two dimensions, in nats.

    Attributes:
        entropy: H(q).
        deficit: H_ref - H(q), with H_ref = (d / 2) log(2 pi e s^2) the entropy of the reference at its end.
        bridge: C, the smallest control energy from N(0, I) to q: KL(q | N(0, I)).
        divergence: KL(q | p).
        reward: E_q[r].
        threshold: C times the integral of beta, with which the published criterion compares `deficit`.
    """

    entropy: float
    deficit: float
    bridge: float
    divergence: float
    reward: float
    threshold: float


def entropy_deficit(
    log_p: Callable[[Tensor], Tensor],
    log_r: Callable[[Tensor], Tensor],
    lam: float,
    integral: float,
    *,
    half_width: float = 6.0,
    n: int = 901,
    variant: str = "corrected",
) -> EntropyDeficit:
    """The entropy deficit of guidance of strength `lam`, on a square grid.

    A diagnostic, not a stopping rule: the published inequality deficit > threshold does not mark a collapse.

    Args:
        log_p, log_r: log density and log reward, [N, 2] -> [N].
        lam: lambda, at least 0.
        integral: integral of beta over the run (10.05 for VPSchedule()).
        half_width, n: half width of the grid, and its points on each side.
        variant: reference variance "corrected" (1 - e^-integral) or "literal" (e^-integral, as published).
    """
    if lam < 0 or variant not in ("corrected", "literal"):
        raise InputError(f"lam must be at least 0 and variant 'corrected' or 'literal', got {lam} and {variant!r}")
    axis = torch.linspace(-half_width, half_width, n, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    cell = (2 * half_width / (n - 1)) ** 2
    p, r = log_p(x), log_r(x)
    log_q = p + lam * r
    log_q = log_q - log_q.logsumexp(0) - math.log(cell)
    q = log_q.exp() * cell
    entropy = float(-(q * log_q).sum())
    moment = float((q * x.square().sum(1)).sum())
    variance = -math.expm1(-integral) if variant == "corrected" else math.exp(-integral)
    bridge = -entropy + 0.5 * moment + math.log(2 * math.pi)
    return EntropyDeficit(
        entropy=entropy,
        deficit=math.log(2 * math.pi * math.e * variance) - entropy,
        bridge=bridge,
        divergence=float((q * (log_q - p)).sum()),
        reward=float((q * r.exp()).sum()),
        threshold=bridge * integral,
    )


def deficit_figure(rows: Mapping[float, EntropyDeficit], path: str | Path) -> None:
    """Draw the entropy deficit, what the published criterion compares it with, and the tilted reward over lambda."""
    scales, found = list(rows), list(rows.values())
    deficit = {
        "entropy deficit": (scales, [row.deficit for row in found]),
        "threshold: C times the integral of beta": (scales, [row.threshold for row in found]),
        "C, least control energy": (scales, [row.bridge for row in found]),
    }
    panels = [
        Panel("published criterion: deficit above threshold", "lambda", "nats", deficit),
        Panel("reward of the exactly tilted law", "lambda", "E[r]", {"_": (scales, [row.reward for row in found])}),
    ]
    line_figure(panels, path)
