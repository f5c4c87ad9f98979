"""The settings of every solver: the same on all problems, chosen without comparison with an exact posterior.

Except the rows mmps (preset), pnp-dm (fine) and daps (exact): they are the presets "calibrated/linear", which were
compared with exact posteriors.

"published" are the numbers of the papers (or the solver's defaults). "fine" approaches the method's own limit: more
steps, on a grid that resolves the end of the path, with the weight from its derivation. A registered solver without an
entry runs with its defaults, so that all solvers are included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from invsolve import DDPMSchedule, Solver
from invsolve.core.presets import published
from invsolve.solvers import SOLVERS

__all__ = ["Row", "fine_grid", "rows"]


@dataclass(frozen=True)
class Row:
    """A solver with settings.

    Attributes:
        name: name in tables: the registry name, with a word for the settings.
        solver: the solver with its settings.
        largest: largest dimension of a problem on which it runs, for solvers with a very high cost per sample.
    """

    name: str
    solver: Solver
    largest: int = 10**6

    @property
    def settings(self) -> str:
        """The settings that differ from the solver's defaults."""
        changed = []
        for field in fields(self.solver):  # pyright: ignore[reportArgumentType]
            value = getattr(self.solver, field.name)
            if value == field.default:
                continue
            if field.name == "times" and isinstance(value, tuple):
                changed.append(f"{len(value) - 1} times of the fine grid")
            else:
                changed.append(f"{field.name}={value!r}")
        return ", ".join(changed) or "defaults"


def fine_grid(n: int, last: float = 0.002, rho: float = 7.0) -> tuple[float, ...]:
    """n times at which (sigma / alpha)^(1 / rho) is equally spaced down to `last`, then 0.

    Karras et al. 2022, arXiv 2206.00364, on the DDPM table from its noisiest entry. A uniform grid of n steps ends with
    a step from a sigma of about 10 / n, and misses all spread below that.
    """
    schedule = DDPMSchedule()
    alpha, sigma = schedule(1.0)
    top, bottom = (sigma / alpha) ** (1 / rho), last ** (1 / rho)
    levels = [(top + i / (n - 1) * (bottom - top)) ** rho for i in range(1, n)]
    return (1.0, *(schedule.time_of(level) for level in levels), 0.0)


def calibrated(solver: str) -> dict[str, object]:
    """The settings of `Solver.preset("calibrated/linear")`."""
    return dict(published(solver)["calibrated/linear"].settings)


_SETTINGS: dict[str, dict[str, dict[str, object]]] = {
    "ddim": {"prior only": {"n_steps": 100, "eta": 1.0}},
    "dps": {
        "published": {"n_steps": 1000, "zeta": 1.0},
        "published ddim": {"form": "ddim", "n_steps": 1000, "zeta": 1.0, "eta": 0.5},
    },
    "ndtm": {
        "published superres": {"gamma": 1.0, "eta": 0.7, "t_start": 0.4, "weight": 50.0, "weights": "ddim"},
        "published inpaint": {"n_inner": 2, "gamma": 4.0, "eta": 0.2, "t_start": 0.5},
    },
    "red-diff": {"published": {"n_steps": 50, "lr": 0.5, "lam": 0.25}},
    "pnp-hqs": {"published": {}},
    "ddrm": {"published": {}, "fine": {"times": fine_grid(200), "eta": 0.0}},
    "ddnm": {"published": {}, "fine": {"times": fine_grid(200), "eta": 0.0}},
    "pigdm": {
        "published": {},
        "fine": {"times": fine_grid(250), "eta": 0.0, "prior_std": 0.5},
    },
    "c-pigdm": {"published": {}, "noisy": {"form": "noisy"}},
    "diffpir": {"published": {}, "fine": {"times": fine_grid(200), "zeta": 0.0, "start": "random"}},
    "mmps": {
        "published": {},
        "fine": {"times": fine_grid(100, 0.003, 15.0), "eta": 0.0, "order": 2, "n_inner": 20},
        "preset": calibrated("mmps"),
    },
    "tmpd": {"published": {}, "fine": {"times": fine_grid(250), "eta": 0.0}},
    "pnp-dm": {"published": {}, "fine": calibrated("pnp-dm")},
    "daps": {"published": {}, "exact": calibrated("daps")},
    "lgd-mc": {"published": {}},
    "mpgd": {"published": {}},
    "freedom": {"published": {}},
    "scg": {"published": {"n_steps": 50, "n_candidates": 8}},
    "tds": {
        "published": {"n_steps": 50, "n_particles": 8, "spread": 0.0},
        "fine": {"times": fine_grid(200), "n_particles": 32, "largest": 2},
    },
    "calibrated": {
        "published": {"n_steps": 25, "n_draws": 8, "n_inner": 4},
        "fine": {"times": fine_grid(100), "n_draws": 64, "largest": 2},
    },
    "ct-dtm": {"published": {}},
    "ftm": {"published": {}},
    "dmplug": {"200 iterations": {"n_iterations": 200}},
}


def rows() -> Iterator[Row]:
    """Every registered solver with each of its settings."""
    for name in SOLVERS:
        for label, settings in _SETTINGS.get(name, {"defaults": {}}).items():
            settings = dict(settings)
            largest = settings.pop("largest", 10**6)
            assert isinstance(largest, int)
            yield Row(f"{name} ({label})", SOLVERS[name](**settings), largest)
