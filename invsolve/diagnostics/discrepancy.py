"""The difference between a conditional and an unconditional score, over time and on given states.

The result depends on the states: on states of the marginal distribution the discrepancy falls with t, on those that a
guided sampler visits it is hump-shaped. Therefore the states are an argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.driver import Progress
from invsolve.core.linalg import row_dot, row_norm
from invsolve.core.prior import Prior
from invsolve.core.rng import NoiseSource
from invsolve.core.schedule import Schedule, Step
from invsolve.diagnostics.lines import Panel, line_figure

__all__ = [
    "Discrepancy",
    "Trajectory",
    "discrepancy_bound",
    "discrepancy_figure",
    "log_ratio_figure",
    "noised",
    "score_discrepancy",
]


@dataclass(frozen=True)
class Discrepancy:
    """Delta = grad log p_t(x | y) - grad log p_t(x) at one time, over N states.

    Attributes:
        t: time.
        rms, largest: root mean square and maximum of |Delta|.
        cosine: mean cosine of the angle between the two scores.
        log_ratio: mean of log |conditional score| / |unconditional score|.
        rms_eps, rms_x0: root mean square of sigma Delta and of sigma^2 / alpha Delta.
        log_ratio_map: mean over states of log |eps_c| / |eps_u| at each entry.
    """

    t: float
    rms: float
    largest: float
    cosine: float
    log_ratio: float
    rms_eps: float
    rms_x0: float
    log_ratio_map: Tensor


def noised(x0: Tensor, schedule: Schedule, times: Sequence[float], rng: NoiseSource) -> dict[float, Tensor]:
    """States alpha_t x0 + sigma_t n, from the marginal or from a conditional distribution, depending on x0."""
    return {t: schedule(t)[0] * x0 + schedule(t)[1] * rng.normal(x0) for t in times}


class Trajectory:
    """A callback of `solve` that stores the states that a sampler visits, in the form for `score_discrepancy`.

    Args:
        steps: the solver's path; the state after a step belongs to that step's end.
        every: number of steps between two stored states.
    """

    def __init__(self, steps: Sequence[Step], every: int = 1) -> None:
        self.steps, self.every, self.states = list(steps), every, dict[float, Tensor]()

    def __call__(self, progress: Progress) -> None:
        s = self.steps[progress.step - 1].s
        if progress.step % self.every == 0 and s > 0:
            old = self.states.get(s)
            self.states[s] = progress.state.x if old is None else torch.cat([old, progress.state.x])


@torch.no_grad()
def score_discrepancy(conditional: Prior, unconditional: Prior, states: Mapping[float, Tensor]) -> list[Discrepancy]:
    """The discrepancy at each time of `states` (t -> x_t [N, ...], t above 0)."""
    rows = []
    for t, x in sorted(states.items()):
        alpha, sigma = conditional.schedule(t)
        if sigma <= 0:
            raise InputError("scores are compared at times above 0")
        c, u = conditional.eps(x, t), unconditional.eps(x, t)
        size = row_norm(c - u)
        tiny = torch.finfo(x.dtype).tiny
        rms = float(size.square().mean().sqrt())
        rows.append(
            Discrepancy(
                t,
                rms / sigma,
                float(size.max()) / sigma,
                float((row_dot(c, u) / (row_norm(c) * row_norm(u)).clamp_min(tiny)).mean()),
                float((row_norm(c).clamp_min(tiny) / row_norm(u).clamp_min(tiny)).log().mean()),
                rms,
                rms * sigma / alpha if alpha > 0 else float("inf"),
                (c.abs().clamp_min(1e-12) / u.abs().clamp_min(1e-12)).log().mean(0),
            )
        )
    return rows


def discrepancy_bound(schedule: Schedule, t: float, diameter: float, std: float = 0.0) -> float:
    """|Delta| <= alpha diameter / (alpha^2 std^2 + sigma^2) at every x, for mixtures of Gaussians of equal deviation.

    Args:
        schedule, t: the schedule and the time.
        diameter: the largest distance from a mean of the class to any mean; if std is 0, the diameter of the data's
            support. In a ball of radius R it is at most 2 R (Gao et al. 2026, arXiv 2603.08155).
        std: standard deviation of each component.
    """
    alpha, sigma = schedule(t)
    return alpha * diameter / (alpha**2 * std**2 + sigma**2)


def discrepancy_figure(
    rows: Mapping[str, Sequence[Discrepancy]], path: str | Path, bound: Mapping[float, float] | None = None
) -> None:
    """Draw score-space and eps-space discrepancy and cosine over time, with one line for each kind of states.

    Args:
        rows: discrepancies by kind of states.
        path: path of the image.
        bound: t -> `discrepancy_bound`, drawn in the first panel.
    """

    def lines(name: str) -> dict[str, tuple[list[float], list[float]]]:
        return {label: ([r.t for r in part], [getattr(r, name) for r in part]) for label, part in rows.items()}

    limit = {} if bound is None else {"bound": (sorted(bound), [bound[t] for t in sorted(bound)])}
    panels = [
        Panel("score discrepancy", "t", "rms of the difference", {**lines("rms"), **limit}, "y"),
        Panel("in units of the noise", "t", "rms of the eps difference", lines("rms_eps")),
        Panel("direction", "t", "cosine of the two scores", lines("cosine")),
    ]
    line_figure(panels, path)


def log_ratio_figure(rows: Sequence[Discrepancy], path: str | Path) -> None:
    """Draw maps of log |eps_c| / |eps_u|, with one panel for each time and one colour scale around 0.

    Raises:
        InputError: the states are not images [C, H, W].
    """
    from matplotlib.figure import Figure

    if any(row.log_ratio_map.ndim != 3 for row in rows):
        raise InputError(f"maps are drawn of images [C, H, W], got {list(rows[0].log_ratio_map.shape)}")
    maps = [row.log_ratio_map.mean(0).cpu().numpy() for row in rows]
    limit = max(float(abs(each).max()) for each in maps) or 1.0
    figure = Figure(figsize=(1.9 * len(rows) + 0.8, 2.3), layout="constrained")
    axes = figure.subplots(1, len(rows), squeeze=False)[0]
    for axis, row, each in zip(axes, rows, maps, strict=True):
        axis.imshow(each, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axis.set_title(f"t = {row.t:g}", fontsize=9)
        axis.set_axis_off()
    figure.colorbar(axes[-1].images[0], ax=axes, label="log |eps_c| / |eps_u|", shrink=0.9)
    figure.savefig(path, dpi=100)
