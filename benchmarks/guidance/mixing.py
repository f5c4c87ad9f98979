"""(d) Score mixing: where flows of mixed scores of point masses end, and how fast they converge."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from benchmarks.common import markdown
from benchmarks.guidance.common import RESULTS, save
from invsolve.diagnostics.mixing import local_minimisers, potential, rate_exponent, reverse_flow

CONFIGURATIONS, STARTS = 6, 64


def laws(seed: int, j: int = 3, k: int = 4, d: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two laws with points uniform in [-1, 1]^d and Dirichlet(3, ...) weights."""
    g = torch.Generator().manual_seed(seed)
    points = [2 * torch.rand(n, d, generator=g, dtype=torch.float64) - 1 for n in (j, k)]
    gamma = [-torch.rand(3, n, generator=g, dtype=torch.float64).log().sum(0) for n in (j, k)]
    return points[0], (gamma[0] / gamma[0].sum()).log(), points[1], (gamma[1] / gamma[1].sum()).log()


def starts(seed: int, n: int = STARTS, d: int = 2) -> Tensor:
    """Starting points from N(0, 2.5^2 I)."""
    return 2.5 * torch.randn(n, d, generator=torch.Generator().manual_seed(100 + seed), dtype=torch.float64)


def landing(lam: float, method: str, n: int, t1: float, tol: float, d: int = 2) -> list[str]:
    """Share of converged flows, farthest end, number of minimisers and exponents by kind, over all configurations."""
    landed, farthest, counts, slopes = 0.0, 0.0, [], {}
    for seed in range(CONFIGURATIONS):
        law = laws(seed, d=d)
        h = 0.02 if method == "rk4" else 0.2
        x, history = reverse_flow(starts(seed, n, d), *law, lam, t1=t1, method=method, h=h)  # pyright: ignore
        found = local_minimisers(law[0], law[2], lam)
        counts.append(len(found.points))
        distance = torch.cdist(x, found.points)
        landed += float((distance.amin(1) < tol).double().sum())
        farthest = max(farthest, float(distance.amin(1).max()))
        near = distance.argmin(1)
        slope = rate_exponent(history, found.points[near])
        for kind in found.kind[near].unique().tolist():
            slopes.setdefault(kind, []).append(slope[(found.kind[near] == kind) & (distance.amin(1) < tol)])
    medians = {k: torch.cat(v) for k, v in sorted(slopes.items())}
    text = ", ".join(f"{k}: {v.median():.3f} (n = {len(v)})" for k, v in medians.items() if len(v))
    shown = f"{landed:.0f}/{CONFIGURATIONS * n}", f"{farthest:.1g}", f"{min(counts)}-{max(counts)}"
    return [f"{d}", f"{lam:g}", *shown, text]


def nested() -> list[list[str]]:
    """Support A inside B: guidance moves the basins, never the limit points."""
    rows = []
    for lam in (1.0, 1.5, 3.0, 7.5):
        ended, shares = 0, []
        for seed in range(4):
            _, _, b, logq = laws(20 + seed, k=6)
            a, logp = b[:2], torch.full((2,), 0.5, dtype=torch.float64).log()
            x, _ = reverse_flow(starts(seed), a, logp, b, logq, lam, t1=1e-6, h=0.02)
            distance = torch.cdist(x, a)
            ended += int((distance.amin(1) < 1e-2).sum())
            shares.append(float((distance.argmin(1) == 0).double().mean()))
        rows.append([f"{lam:g}", f"{ended}/{4 * STARTS}", ", ".join(f"{s:.2f}" for s in shares)])
    return rows


def decay(lam: float, method: str, t1: float, h: float, d: int) -> tuple[list[float], list[float]]:
    """The median distance from the end point over t, of the flows from ten starts that reach a minimiser."""
    law = laws(0, d=d)
    x, history = reverse_flow(starts(0, 10, d), *law, lam, t1=t1, method=method, h=h)  # pyright: ignore
    found = local_minimisers(law[0], law[2], lam).points
    near = torch.cdist(x, found)
    kept = near.amin(1) < 2e-3
    rows = [(t, float((p - found[near.argmin(1)])[kept].norm(dim=1).median())) for t, p in history]
    return [t for t, _ in rows], [r for _, r in rows]


def figure() -> None:
    """Draw trajectories over the potential for three lambdas, and how the distance from a minimiser falls."""
    from matplotlib.figure import Figure

    law = laws(0)
    grid = torch.linspace(-3, 3, 200, dtype=torch.float64)
    x, y = torch.meshgrid(grid, grid, indexing="xy")
    canvas = Figure(figsize=(16, 4), layout="constrained")
    *axes, rate = canvas.subplots(1, 4)
    for axis, lam in zip(axes, (0.5, 1.0, 2.0), strict=True):
        phi = potential(torch.stack([x.flatten(), y.flatten()], 1), law[0], law[2], lam).view(200, 200)
        axis.contourf(grid, grid, phi, 30, cmap="Greys", alpha=0.6)
        _, history = reverse_flow(starts(0, 24), *law, lam, t1=1e-6, h=0.02)
        path = torch.stack([p for _, p in history])
        axis.plot(path[..., 0], path[..., 1], linewidth=0.8, color="C0")
        found = local_minimisers(law[0], law[2], lam).points
        axis.plot(*law[0].T, "s", color="C2", label="first law")
        axis.plot(*law[2].T, "^", color="C1", label="second law")
        axis.plot(*found.T, "*", color="C3", markersize=11, label="minimisers")
        axis.set(title=f"lambda = {lam:g}", xlim=(-3, 3), ylim=(-3, 3))
        axis.legend(fontsize=7)
    rate.loglog(*decay(0.5, "rk4", 1e-7, 0.05, 2), label="plane, lambda 0.5: smooth")
    rate.loglog(*decay(2.0, "bdf", 1e-7, 0.2, 1), label="line, lambda 2: kinks")
    for power, stroke in ((0.5, "--"), (1.0, ":")):
        rate.loglog([1e-7, 1], [1e-7**power, 1.0], stroke, color="0.4", label=f"t^{power:g}")
    rate.set(title="median distance from the minimiser", xlabel="t", xlim=(4, 1e-7))
    rate.legend(fontsize=8)
    RESULTS.mkdir(exist_ok=True)
    canvas.savefig(RESULTS / "mixing.png", dpi=90)


def main() -> None:
    """Write mixing.md, mixing.json and mixing.png."""
    began = time.perf_counter()
    smooth = [landing(lam, "rk4", STARTS, 1e-8, 1e-3) for lam in (0.0, 0.3, 0.5, 0.7, 1.0)]
    above = [landing(lam, "bdf", 10, 1e-7, 2e-3, d) for d in (1, 2) for lam in (1.5, 2.0, 4.0)]
    ddim = []
    for lam in (0.5, 2.0):
        for h in (0.4, 0.1, 0.02):
            near = 0
            for seed in range(CONFIGURATIONS):
                law = laws(seed)
                x, _ = reverse_flow(starts(seed), *law, lam, t0=3200.0, t1=2e-6, method="ddim", h=h)
                near += int((torch.cdist(x, local_minimisers(law[0], law[2], lam).points).amin(1) < 2e-2).sum())
            ddim.append([f"{lam:g}", f"{21.2 / h:.0f}", f"{near}/{CONFIGURATIONS * STARTS}"])
    basins = nested()
    head = [
        "d",
        "lambda",
        "landed",
        "farthest end",
        "minimisers",
        "exponent by kind of minimiser (1 smooth, 2 and 3 kinks): median",
    ]
    text = "\n".join(
        [
            f"Flows of mixed scores of 3 and 4 random points, 6 configurations of {STARTS} starts (10 above lambda 1). "
            "Landed: within 1e-3 of a minimiser at t = 1e-8 (above 1: 2e-3 at 1e-7); others are still on their way.\n",
            markdown(head, [*smooth, *above]),
            "Through classifier-free guidance with DDIM steps, ends within 0.02 of a minimiser:\n",
            markdown(["lambda", "steps", "landed"], ddim),
            "Nested supports (two of six points): ends on them, and the share of the first in 4 configurations:\n",
            markdown(["lambda", "ended on them", "share of the first"], basins),
        ]
    )
    figure()
    save("mixing", text, {"flow": [*smooth, *above], "ddim": ddim, "nested": basins})
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
