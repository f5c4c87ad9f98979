"""The terminal costs by name."""

from __future__ import annotations

from invsolve.core.registry import Registry

__all__ = ["COSTS"]

COSTS = Registry(
    "cost",
    {
        "classifier": "invsolve.costs.classifier:ClassifierCost",
        "function": "invsolve.costs.function:FunctionCost",
        "gaussian": "invsolve.costs.gaussian:GaussianLikelihood",
        "impulse": "invsolve.costs.noise:ImpulseLikelihood",
        "laplace": "invsolve.costs.noise:LaplaceLikelihood",
        "poisson": "invsolve.costs.poisson:PoissonLikelihood",
        "poisson-gaussian": "invsolve.costs.poisson:PoissonGaussianLikelihood",
        "quantised": "invsolve.costs.noise:QuantisedLikelihood",
        "reward": "invsolve.costs.reward:RewardCost",
        "speckle": "invsolve.costs.noise:SpeckleLikelihood",
        "unknown-gaussian": "invsolve.costs.gaussian:UnknownGaussianLikelihood",
    },
    "invsolve.core.cost:TerminalCost",
)
