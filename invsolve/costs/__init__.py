"""Terminal costs: likelihoods of measurements, and any other function of the image."""

from invsolve.costs.classifier import ClassifierCost
from invsolve.costs.function import FunctionCost
from invsolve.costs.gaussian import GaussianLikelihood, UnknownGaussianLikelihood
from invsolve.costs.noise import ImpulseLikelihood, LaplaceLikelihood, QuantisedLikelihood, SpeckleLikelihood
from invsolve.costs.poisson import PoissonGaussianLikelihood, PoissonLikelihood
from invsolve.costs.registry import COSTS
from invsolve.costs.reward import RewardCost
from invsolve.costs.stacked import stacked_likelihood

__all__ = [
    "COSTS",
    "ClassifierCost",
    "FunctionCost",
    "GaussianLikelihood",
    "ImpulseLikelihood",
    "LaplaceLikelihood",
    "PoissonGaussianLikelihood",
    "PoissonLikelihood",
    "QuantisedLikelihood",
    "RewardCost",
    "SpeckleLikelihood",
    "UnknownGaussianLikelihood",
    "stacked_likelihood",
]
