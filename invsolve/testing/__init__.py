"""Public checks for one's own operators and priors, and recorded randomness for comparing solvers draw by draw."""

from invsolve.testing.operators import check_operator
from invsolve.testing.priors import check_prior
from invsolve.testing.replay import ReplayRng
from invsolve.testing.report import Check, ConformanceError, Report

__all__ = ["Check", "ConformanceError", "ReplayRng", "Report", "check_operator", "check_prior"]
