"""Solvers: frozen hyper-parameters, an explicit state, one pure step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError, nearest
from invsolve.core.cost import Likelihood, linear_gaussian
from invsolve.core.operator import EMPTY, Params, SVDOperator
from invsolve.core.presets import published
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import check_settings

__all__ = ["Info", "Needs", "Solver", "State"]


@dataclass(frozen=True)
class State:
    """All that the next step needs, and all of it savable.

    Attributes:
        x: the current iterate [N, *shape]; after the last step, the answer in the prior's space.
        k: steps made so far.
        theta: raw (unconstrained) operator parameters, empty unless the problem is blind.
        memory: whatever else the solver carries on: tensors with leading dimension N.
    """

    x: Tensor
    k: int = 0
    theta: Params = field(default_factory=lambda: EMPTY)
    memory: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Info:
    """Diagnostics of one step; nothing depends on them.

    Attributes:
        x0: the clean estimate behind the step, [N, *shape] in the prior's space.
        energy: the misfit at it [N], where the solver computed one.
        extra: named tensors.
    """

    x0: Tensor
    energy: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Needs:
    """What a solver needs of a problem, by type.

    Attributes:
        cost: a terminal cost at all.
        likelihood: a measurement y = A(x) + noise.
        linear: a linear operator with Gaussian noise (and a pixel-space prior).
        svd: moreover an operator with a fast singular value decomposition.
        blind: whether unknown operator parameters are supported (this one is an offer).
    """

    cost: bool = True
    likelihood: bool = False
    linear: bool = False
    svd: bool = False
    blind: bool = False

    def check(self, problem: Problem, solver: str) -> None:
        """Raise `CapabilityError` with what to use instead, before any work."""
        cost = problem.cost
        if (self.cost or self.likelihood or self.linear or self.svd) and cost is None:
            raise CapabilityError(f"{solver} needs a terminal cost: give Problem(prior, cost), or sample with DDIM")
        if problem.unknowns is not None and not self.blind:
            raise CapabilityError(f"{solver} cannot estimate unknown operator parameters: use NDTM")
        if (self.likelihood or self.linear or self.svd) and not isinstance(cost, Likelihood):
            raise CapabilityError(
                f"{solver} needs a likelihood with a measurement, got {type(cost).__name__}: use NDTM or DPS"
            )
        if (self.linear or self.svd) and (linear_gaussian(cost) is None or problem.prior.latent):
            raise CapabilityError(
                f"{solver} needs a linear operator with Gaussian noise and a pixel-space prior: "
                "use NDTM, DPS or RED-diff"
            )
        if isinstance(cost, Likelihood):
            operator = cost.operator
            if self.svd and not isinstance(operator, SVDOperator):
                raise CapabilityError(
                    f"{solver} needs an operator with a singular value decomposition, "
                    f"{type(operator).__name__} has none: use PiGDM, NDTM or PnP-HQS"
                )


class Solver(ABC):
    """A method that steers a prior towards a terminal cost.

    Concrete solvers are final frozen dataclasses of hyper-parameters. They keep no state of their own, so one object
    serves any number of problems and can drive its steps by hand:

        state = solver.init(problem, n, rng)
        for _ in range(solver.steps(problem)):
            state, info = solver.step(problem, state, rng)
    """

    name: ClassVar[str]
    """Registry name, lower case with dashes."""
    cite: ClassVar[str]
    """The paper in the form of `invsolve.core.citation.Citation`; several are separated by semicolons."""
    needs: ClassVar[Needs] = Needs()
    mode_seeking: ClassVar[bool] = False
    """Whether it looks for one best estimate instead of posterior samples."""
    deterministic: ClassVar[bool] = False
    """Whether its samples are all the same."""
    differentiates: ClassVar[bool] = True
    """Whether it takes gradients through the network."""

    def __post_init__(self) -> None:
        """Check the settings by their types; solvers that check more of them call this first."""
        check_settings(self)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The solver with settings as published, some of them changed; `presets.published` tells their source.

        Args:
            name: "data set and size/task", for example "ffhq256/superres4".
            changes: settings of one's own.

        Raises:
            InputError: no such preset.
        """
        table = published(cls.name)
        if name not in table:
            known = nearest(name, table) if table else "it has none"
            raise InputError(f"{cls.__name__} has no preset {name!r}; {known}")
        return cls(**{**table[name].settings, **changes})

    @abstractmethod
    def steps(self, problem: Problem) -> int:
        """How many steps a run makes."""

    @abstractmethod
    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        """The state before the first step; row i belongs to the i-th measurement of `problem`."""

    @abstractmethod
    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        """One step."""
