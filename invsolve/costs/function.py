"""Any torch function as a terminal cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from invsolve.core.checks import check_one_each
from invsolve.core.cost import TerminalCost
from invsolve.core.identity import keyed_state
from invsolve.core.inspection import takes_theta
from invsolve.core.operator import EMPTY, Params

__all__ = ["FunctionCost"]


class FunctionCost(TerminalCost):
    """Phi(x) = function(x) or function(x, theta).

    Args:
        function: maps a batch of images [N, C, H, W] in [0, 1] to energies [N] in nats. Solvers other than `SCG` use
            its gradient.
        key: a text that identifies the function in checkpoints, if it is a lambda or a closure; change it whenever the
            function changes.
    """

    def __init__(self, function: Callable[..., Tensor], key: str | None = None) -> None:
        self.function, self.key = function, key
        self._takes_theta = takes_theta(function)

    def __call__(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        value = self.function(x, theta) if self._takes_theta else self.function(x)
        check_one_each(value, len(x), "a terminal cost")
        return value

    def identity_state(self) -> dict[str, Any]:
        """The attributes that determine the energies."""
        return keyed_state(self, "function")
