"""The solver interface: frozen hyper-parameters, an explicit state, and one pure step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError, nearest
from invsolve.core.cost import Likelihood, linear_gaussian
from invsolve.core.operator import EMPTY, Params
from invsolve.core.presets import published
from invsolve.core.problem import Problem
from invsolve.core.rng import NoiseSource
from invsolve.core.settings import check_settings
from invsolve.core.svd import SVDOperator

__all__ = ["Info", "Needs", "Solver", "State"]


@dataclass(frozen=True)
class State:
    """Everything the next step needs. All of it can be saved in a checkpoint.

    Attributes:
        x: the current iterate [N, *shape]; after the last step, the result in the prior's space.
        k: number of completed steps.
        theta: raw (unconstrained) operator parameters; empty unless the problem is blind.
        memory: other tensors the solver needs in later steps, with leading dimension N.
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
        energy: what guides the solver, at x0, [N]: `Problem.energy`, or for most solvers `Problem.misfit`, which is the
            squared residual for Gaussian noise; None if it computed neither.
        extra: named tensors.
    """

    x0: Tensor
    energy: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Needs:
    """What a solver requires of a problem, and whether it supports blind ones.

    Attributes:
        cost: requires a terminal cost.
        likelihood: requires a measurement y = A(x) + noise.
        linear: requires a linear operator, Gaussian noise and a pixel-space prior.
        svd: requires an operator with a fast singular value decomposition, in addition to `linear`.
        blind: supports unknown operator parameters.
    """

    cost: bool = True
    likelihood: bool = False
    linear: bool = False
    svd: bool = False
    blind: bool = False

    def check(self, problem: Problem, solver: str) -> None:
        """Raise `CapabilityError` if the problem does not qualify; the message names an alternative."""
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
    """A method that samples or optimises under a prior and a terminal cost.

    Concrete solvers are final frozen dataclasses of hyper-parameters. They hold no state, so one object can solve any
    number of problems. You can also run the steps yourself:

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
    """Whether it returns a point estimate instead of posterior samples."""
    deterministic: ClassVar[bool] = False
    """Whether all samples of one measurement are equal."""
    differentiates: ClassVar[bool] = True
    """Whether it differentiates the network with respect to its input."""

    def __post_init__(self) -> None:
        """Check the settings against their types; solvers with further checks call this first."""
        check_settings(self)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """Create the solver with published settings, some of them changed; `presets.published` lists the sources.

        Args:
            name: "data set and size/task", for example "ffhq256/superres4"; or "calibrated/linear", whose samples pass
                the tests on exact linear problems (benchmarks/calibration).
            changes: settings that replace the published ones.

        Raises:
            InputError: there is no such preset.
        """
        table = published(cls.name)
        if name not in table:
            known = nearest(name, table) if table else "it has none"
            raise InputError(f"{cls.__name__} has no preset {name!r}; {known}")
        return cls(**{**table[name].settings, **changes})

    @abstractmethod
    def steps(self, problem: Problem) -> int:
        """The number of steps of a run."""

    @abstractmethod
    def init(self, problem: Problem, n: int, rng: NoiseSource) -> State:
        """The state before the first step; row i belongs to the i-th measurement of `problem`."""

    @abstractmethod
    def step(self, problem: Problem, state: State, rng: NoiseSource) -> tuple[State, Info]:
        """Make one step."""
