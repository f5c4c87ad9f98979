"""Public checks for user-written operators, costs, priors and solvers, and a replay of recorded random draws."""

from invsolve.testing.costs import check_cost
from invsolve.testing.operators import check_operator
from invsolve.testing.priors import check_prior
from invsolve.testing.replay import ReplayRng
from invsolve.testing.report import Check, ConformanceError, Report
from invsolve.testing.solvers import check_solver

__all__ = [
    "Check",
    "ConformanceError",
    "ReplayRng",
    "Report",
    "check_cost",
    "check_operator",
    "check_prior",
    "check_solver",
]
