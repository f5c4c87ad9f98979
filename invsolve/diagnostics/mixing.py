"""Mixed scores of two discrete distributions: the potential that determines where the flow ends, and how fast.

Heat flow: u_i(t) is mu_i convolved with N(0, 2 t I), s = lam grad log u_1 + (1 - lam) grad log u_2, lam >= 0, and the
generation flow is dx/dt = -s with t decreasing to 0. As t -> 0 it follows -grad Phi / 4 in tau = -log t with

    Phi(x) = lam d_1(x)^2 + (1 - lam) d_2(x)^2,    d_i the distance to the support of mu_i

Liu and Zuazua 2026, arXiv 2605.12231. VE schedules have sigma^2 = 2 t, others kappa^2 = 2 t with kappa = sigma / alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from invsolve.core.checks import InputError, check_positive

__all__ = [
    "History",
    "Minimisers",
    "clarke_residual",
    "dirac_score",
    "local_minimisers",
    "mixed_score",
    "mixing_report",
    "potential",
    "potential_grad",
    "rate_exponent",
    "reverse_flow",
]

History = list[tuple[float, Tensor]]


def dirac_score(x: Tensor, points: Tensor, logw: Tensor, t: float) -> Tensor:
    """grad log of sum_j w_j N(a_j, 2 t I) at x [N, d]: -(x - sum_j pi_j a_j) / (2 t)."""
    share = (logw - torch.cdist(x, points).square() / (4 * t)).softmax(1)
    return -(x - share @ points) / (2 * t)


def mixed_score(x: Tensor, a: Tensor, logp: Tensor, b: Tensor, logq: Tensor, lam: float, t: float) -> Tensor:
    """lam grad log u_1 + (1 - lam) grad log u_2, [N, d]; a [J, d], b [K, d] with log weights."""
    check_positive(lam, "lambda", zero=True)
    return lam * dirac_score(x, a, logp, t) + (1 - lam) * dirac_score(x, b, logq, t)


def potential(x: Tensor, a: Tensor, b: Tensor, lam: float) -> Tensor:
    """Phi(x), [N]."""
    check_positive(lam, "lambda", zero=True)
    return lam * torch.cdist(x, a).square().amin(1) + (1 - lam) * torch.cdist(x, b).square().amin(1)


def potential_grad(x: Tensor, a: Tensor, b: Tensor, lam: float) -> Tensor:
    """2 (x - lam a_j - (1 - lam) b_k) with the nearest points (the first one if several are nearest), [N, d]."""
    check_positive(lam, "lambda", zero=True)
    return 2 * (x - lam * a[torch.cdist(x, a).argmin(1)] - (1 - lam) * b[torch.cdist(x, b).argmin(1)])


class Minimisers(NamedTuple):
    """Local minimisers of Phi.

    Attributes:
        points: [M, d].
        kind: [M], 1 in the interior of a cell, r if r points of B are nearest (a kink).
        j: [M], index of the nearest point of A.
    """

    points: Tensor
    kind: Tensor
    j: Tensor


def local_minimisers(a: Tensor, b: Tensor, lam: float) -> Minimisers:
    """All local minimisers of Phi, float64.

    For lam <= 1 they are the points lam a_j + (1 - lam) b_k that lie in their own cell. For lam > 1 there is at most
    one for each j: the minimum of the strongly convex lam |x - a_j|^2 - (lam - 1) min_k |x - b_k|^2, from its dual over
    the simplex.
    """
    check_positive(lam, "lambda", zero=True)
    points, kinds, js = [], [], []
    if lam <= 1:
        for j in range(len(a)):
            for k in range(len(b)):
                m = lam * a[j] + (1 - lam) * b[k]
                own_a = lam == 0 or int(torch.cdist(m[None], a).argmin()) == j
                own_b = lam == 1 or int(torch.cdist(m[None], b).argmin()) == k
                if own_a and own_b and not any(torch.allclose(m, p, atol=1e-12) for p in points):
                    points.append(m)
                    kinds.append(1)
                    js.append(int(torch.cdist(m[None], a).argmin()))
    else:
        for j in range(len(a)):
            eta = _dual(a[j], b, lam)
            x = lam * a[j] - (lam - 1) * eta @ b
            if int(torch.cdist(x[None], a).argmin()) == j:
                points.append(x)
                kinds.append(int((eta > 1e-5).sum()))
                js.append(j)
    empty = a.new_zeros((0, a.shape[1]))
    return Minimisers(torch.stack(points) if points else empty, torch.tensor(kinds), torch.tensor(js))


def _dual(a: Tensor, b: Tensor, lam: float) -> Tensor:
    """The weights eta on the simplex that maximise lam |x - a|^2 - (lam - 1) sum eta_k |x - b_k|^2 at x = x_eta.

    Enumerates the supports: the optimum has at most d + 1 positive weights, at equal distance from x.
    """
    d, best, value = a.shape[0], None, math.inf
    for size in range(1, min(d + 1, len(b)) + 1):
        for chosen in combinations(range(len(b)), size):
            part = b[list(chosen)]
            # x = lam a - (lam - 1) eta b, all |x - b_k| equal on the support, eta summing to one
            edges = part[1:] - part[0]
            matrix = torch.cat([-(lam - 1) * edges @ part.T, torch.ones(1, size, dtype=a.dtype)])
            right = (part[1:].square().sum(1) - part[0].square().sum()) / 2 - lam * edges @ a
            solution = torch.linalg.lstsq(matrix, torch.cat([right, a.new_ones(1)])[:, None]).solution[:, 0]
            if bool((solution < -1e-10).any()):
                continue
            x = lam * a - (lam - 1) * solution @ part
            distances = (x - b).square().sum(1)
            if float((x - part[0]).square().sum()) > float(distances.min()) + 1e-9:
                continue
            height = float(lam * (x - a).square().sum() - (lam - 1) * distances.min())
            if height < value - 1e-12:
                best, value = b.new_zeros(len(b)).index_put((torch.tensor(chosen),), solution.clamp_min(0)), height
    assert best is not None
    return best / best.sum()


def clarke_residual(x: Tensor, a: Tensor, b: Tensor, lam: float, tol: float = 1e-6) -> Tensor:
    """The distance of x [N, d] from lam conv{nearest a} + (1 - lam) conv{nearest b}, [N]; 0 exactly at critical points.

    Points whose distance exceeds the nearest one's by at most `tol` count as nearest.
    """
    return torch.stack([_residual(row, a, b, lam, tol) for row in x])


def _residual(x: Tensor, a: Tensor, b: Tensor, lam: float, tol: float) -> Tensor:
    near = []
    for points in (a, b):
        distance = (points - x).square().sum(1).sqrt()
        near.append(points[distance <= distance.min() + tol])
    sums = (lam * near[0][:, None] + (1 - lam) * near[1][None]).flatten(0, 1)  # its hull is the sum of the hulls
    eta = sums.new_full((len(sums),), 1 / len(sums))
    for i in range(2000 if len(sums) > 1 else 0):  # Frank-Wolfe with exact line search
        point = eta @ sums
        corner = int(((sums - x) @ (point - x)).argmin())
        move = sums[corner] - point
        length = float(move.square().sum())
        step = min(1.0, max(0.0, float(-(point - x) @ move) / length)) if length > 0 else 0.0
        if step == 0.0 and i > 0:
            break
        eta = (1 - step) * eta
        eta[corner] += step
    return (eta @ sums - x).norm()


def reverse_flow(
    x0: Tensor,
    a: Tensor,
    logp: Tensor,
    b: Tensor,
    logq: Tensor,
    lam: float,
    *,
    t0: float = 4.0,
    t1: float = 1e-8,
    method: Literal["rk4", "bdf", "ddim"] = "rk4",
    h: float = 0.02,
) -> tuple[Tensor, History]:
    """Follow the generation flow from x0 [N, d] at t0 down to t1, in tau = -log t; return its end and all (t, x).

    "rk4" is for lam <= 1. For lam > 1, a layer of width O(t) around each kink makes the flow stiff: use "bdf"
    (implicit, one trajectory after the other). "ddim" is classifier-free guidance with weight lam, exact inside a cell.
    """
    if not 0 < t1 < t0 or h <= 0 or method not in ("rk4", "bdf", "ddim"):
        raise InputError(f"0 < t1 < t0, h > 0 and method rk4, bdf or ddim are needed, got {t1}, {t0}, {h}, {method!r}")
    n = math.ceil(math.log(t0 / t1) / h)
    times = [t0 * (t1 / t0) ** (i / n) for i in range(n + 1)]
    if method == "bdf":
        return _bdf(x0, (a, logp, b, logq, lam), times)

    def drift(x: Tensor, t: float) -> Tensor:
        return t * mixed_score(x, a, logp, b, logq, lam, t)

    x, history = x0, [(t0, x0)]
    for t, s in zip(times, times[1:], strict=False):
        if method == "ddim":  # kappa = sqrt(2 t), x0hat = x + 2 t s
            clean = x + 2 * drift(x, t)
            x = clean + math.sqrt(s / t) * (x - clean)
        else:
            step, middle = math.log(t / s), math.sqrt(t * s)
            k1 = drift(x, t)
            k2 = drift(x + step / 2 * k1, middle)
            k3 = drift(x + step / 2 * k2, middle)
            x = x + step / 6 * (k1 + 2 * k2 + 2 * k3 + drift(x + step * k3, s))
        history.append((s, x))
    return x, history


def _bdf(
    x0: Tensor, law: tuple[Tensor, Tensor, Tensor, Tensor, float], times: Sequence[float]
) -> tuple[Tensor, History]:
    import numpy as np
    from scipy.integrate import solve_ivp

    a, logp, b, logq, lam = (part.numpy() if isinstance(part, Tensor) else part for part in law)

    def mean(x, points, logw, t):
        log = logw - ((x - points) ** 2).sum(1) / (4 * t)
        weight = np.exp(log - log.max())
        return weight @ points / weight.sum()

    def drift(tau, x):
        t = math.exp(-tau)
        return -0.5 * (x - lam * mean(x, a, logp, t) - (1 - lam) * mean(x, b, logq, t))

    taus = [-math.log(t) for t in times]
    span = (taus[0], taus[-1] + 1e-12)
    runs = [solve_ivp(drift, span, row.numpy(), "BDF", t_eval=taus, rtol=1e-9, atol=1e-12).y.T for row in x0]
    stacked = torch.from_numpy(np.stack(runs, 1))
    return stacked[-1], list(zip(times, stacked, strict=True))


def rate_exponent(history: History, limit: Tensor, t_lo: float = 1e-6, t_hi: float = 1e-3) -> Tensor:
    """Slope of log |x(t) - limit| against log t between two times, [N]; limit [N, d]."""
    kept = [(t, x) for t, x in history if t_lo <= t <= t_hi]
    if len(kept) < 3:
        raise InputError(f"the history has {len(kept)} times between {t_lo} and {t_hi}: at least three are needed")
    log_t = torch.tensor([math.log(t) for t, _ in kept], dtype=limit.dtype)
    log_d = torch.stack([(x - limit).norm(dim=1).clamp_min(1e-300).log() for _, x in kept])
    centred = log_t - log_t.mean()
    return (centred[:, None] * log_d).sum(0) / centred.square().sum()


def mixing_report(history: History, found: Minimisers, tol: float = 1e-3) -> dict[str, object]:
    """Summarise a flow: the share that ended within `tol` of a minimiser, exponents by kind, shares of the basins."""
    end = history[-1][1]
    if not len(found.points):
        return {"landed_fraction": 0.0, "exponents": {}, "basins": []}
    distance = torch.cdist(end, found.points)
    nearest, landed = distance.argmin(1), distance.amin(1) < tol
    slopes = rate_exponent(history, found.points[nearest])
    kinds = found.kind[nearest]
    exponents = {int(k): slopes[landed & (kinds == k)] for k in kinds[landed].unique()}
    return {
        "landed_fraction": float(landed.double().mean()),
        "exponents": {k: v.quantile(torch.tensor([0.0, 0.5, 1.0]).to(v)).tolist() for k, v in exponents.items()},
        "basins": [float((nearest == m).double().mean()) for m in range(len(found.points))],
    }
