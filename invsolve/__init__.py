"""invsolve: imaging inverse problems solved with pretrained diffusion priors.

Combine a prior, a terminal cost and a solver into a restoration:

    import invsolve as iv
    from invsolve import costs, operators, priors, solvers

    prior = priors.load("natural")
    A = operators.SuperResolution(in_shape=(3, 256, 256), factor=4)
    cost = costs.GaussianLikelihood(A, y, sigma=0.01)
    samples = iv.solve(iv.Problem(prior, cost), solvers.NDTM(), samples=4, seed=0).samples

Every name is imported on first use, so that the command line can start without loading torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from invsolve.core.lazy import names_of

if TYPE_CHECKING:
    from invsolve import costs, diagnostics, io, metrics, operators, priors, solvers, testing
    from invsolve.core.checks import CapabilityError, InputError, InvsolveError, ShapeError
    from invsolve.core.citation import cite
    from invsolve.core.cost import Likelihood, TerminalCost
    from invsolve.core.driver import Progress, solve
    from invsolve.core.operator import LinearOperator, Operator
    from invsolve.core.prior import Prediction, Prior
    from invsolve.core.problem import Problem
    from invsolve.core.result import Result, Stats
    from invsolve.core.rng import NoiseSource, Rng
    from invsolve.core.schedule import (
        CosineSchedule,
        DDPMSchedule,
        FlowSchedule,
        Schedule,
        VESchedule,
        VPSchedule,
    )
    from invsolve.core.solver import Info, Needs, Solver, State
    from invsolve.core.svd import SVDOperator
    from invsolve.core.unknowns import Unknown, Unknowns
    from invsolve.noise.estimate import estimate_noise
    from invsolve.noise.estimated import NoiseEstimate
    from invsolve.restoration import restore, restore_many
    from invsolve.restoration.reconstructor import as_reconstructor

_HOMES = {
    "invsolve.core.checks": ("CapabilityError", "InputError", "InvsolveError", "ShapeError"),
    "invsolve.core.citation": ("cite",),
    "invsolve.core.cost": ("Likelihood", "TerminalCost"),
    "invsolve.core.driver": ("Progress", "solve"),
    "invsolve.core.operator": ("LinearOperator", "Operator"),
    "invsolve.core.prior": ("Prediction", "Prior"),
    "invsolve.core.problem": ("Problem",),
    "invsolve.core.result": ("Result", "Stats"),
    "invsolve.core.rng": ("NoiseSource", "Rng"),
    "invsolve.core.schedule": (
        "CosineSchedule",
        "DDPMSchedule",
        "FlowSchedule",
        "Schedule",
        "VESchedule",
        "VPSchedule",
    ),
    "invsolve.core.solver": ("Info", "Needs", "Solver", "State"),
    "invsolve.core.svd": ("SVDOperator",),
    "invsolve.core.unknowns": ("Unknown", "Unknowns"),
    "invsolve.noise.estimate": ("estimate_noise",),
    "invsolve.noise.estimated": ("NoiseEstimate",),
    "invsolve.restoration.reconstructor": ("as_reconstructor",),
    "invsolve.restoration": ("restore", "restore_many"),
}
_MODULES = ("costs", "diagnostics", "io", "metrics", "operators", "priors", "solvers", "testing")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_named = names_of("invsolve", _HOME_OF)

__all__ = [
    "CapabilityError",
    "CosineSchedule",
    "DDPMSchedule",
    "FlowSchedule",
    "Info",
    "InputError",
    "InvsolveError",
    "Likelihood",
    "LinearOperator",
    "Needs",
    "NoiseEstimate",
    "NoiseSource",
    "Operator",
    "Prediction",
    "Prior",
    "Problem",
    "Progress",
    "Result",
    "Rng",
    "SVDOperator",
    "Schedule",
    "ShapeError",
    "Solver",
    "State",
    "Stats",
    "TerminalCost",
    "Unknown",
    "Unknowns",
    "VESchedule",
    "VPSchedule",
    "as_reconstructor",
    "cite",
    "costs",
    "diagnostics",
    "estimate_noise",
    "io",
    "metrics",
    "operators",
    "priors",
    "restore",
    "restore_many",
    "solve",
    "solvers",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("invsolve")
    if name in _MODULES:
        return importlib.import_module(f"invsolve.{name}")
    return _named(name)


def __dir__() -> list[str]:
    return sorted(__all__)
