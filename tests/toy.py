"""Small exact problems that several test files share."""

from __future__ import annotations

import torch
from torch import Tensor

import invsolve as iv
from invsolve import costs, operators, priors, solvers

SHAPE = (3, 4, 4)


def covariance(d: int, seed: int = 0) -> Tensor:
    """A well-conditioned covariance [d, d] of pixels with standard deviations near 0.2."""
    g = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64))[0]
    return q * torch.linspace(0.01, 0.08, d, dtype=torch.float64) @ q.T


def gaussian(
    value_range: tuple[float, float] = (0.0, 1.0), schedule: iv.Schedule | None = None
) -> priors.GaussianPrior:
    """The same image law in the units of `value_range`."""
    low, width = value_range[0], value_range[1] - value_range[0]
    mean = torch.linspace(0.3, 0.7, 48, dtype=torch.float64).view(SHAPE)
    return priors.GaussianPrior(mean * width + low, covariance(48) * width**2, schedule, value_range)


def likelihood(items: int = 3, sigma: float = 0.05, seed: int = 1) -> costs.GaussianLikelihood:
    """`items` measurements of images of that law by 2x super-resolution."""
    operator = operators.SuperResolution(SHAPE, 2)
    clean = gaussian().sample(items, iv.Rng(seed))
    simulated = costs.GaussianLikelihood(operator, None, sigma).simulate(clean, iv.Rng(seed + 1))
    return costs.GaussianLikelihood(operator, simulated, sigma)


def quick(name: str) -> iv.Solver:
    """A registered solver with few steps."""
    settings = {
        "c-pigdm": {"n_steps": 6},
        "calibrated": {"n_steps": 8, "n_draws": 4, "n_inner": 3},
        "ct-dtm": {"n_steps": 10, "n_inner": 2, "weight": 10.0},
        "daps": {"n_steps": 6, "n_ode": 2, "n_langevin": 4},
        "ddim": {"n_steps": 10, "eta": 0.5},
        "ddnm": {"n_steps": 10},
        "ddrm": {"n_steps": 10},
        "diffpir": {"n_steps": 10},
        "dmplug": {"n_iterations": 8},
        "dps": {"n_steps": 20, "zeta": 0.3},
        "freedom": {"n_steps": 10, "rounds": 2, "n_backward": 1},
        "ftm": {"n_steps": 8, "n_inner": 2},
        "guidance": {"n_steps": 10, "scale": solvers.AdaptiveScale(3.0)},
        "lgd-mc": {"n_steps": 10, "n_draws": 3},
        "mmps": {"n_steps": 10, "n_inner": 2},
        "mpgd": {"n_steps": 10},
        "ndtm": {"n_steps": 8, "n_inner": 3, "weights": "ddim", "weight": 10.0},
        "pigdm": {"n_steps": 10},
        "pnp-dm": {"n_steps": 5, "n_inner": 4, "decay": 0.5},
        "pnp-hqs": {"n_steps": 6},
        "red-diff": {"n_steps": 10},
        "scg": {"n_steps": 8, "n_candidates": 3},
        "tds": {"n_steps": 8, "n_particles": 4},
        "tmpd": {"n_steps": 10},
    }
    return solvers.SOLVERS[name](**settings.get(name, {}))
