"""What decides a result, as one hash: of operators, costs, priors, settings, and whatever they are made of.

    identify(value)         equal contents, equal hash; another content, another hash
    run_identity(...)       of a whole run: what a checkpoint belongs to

Values are walked down to numbers, text and the bits of tensors. Nothing is told by its `repr`, nothing by its address.
Functions and classes of the user's own are known by their name, their code, and the global names that the code reads;
those of installed packages by their name. An object says what decides its results by a method `identity_state()`, or by
`__getstate__`, and otherwise by its attributes.

A lambda, a function that reads variables of another function, and an object that shows no state cannot be told apart
from others of their kind. The library's own classes take a `key` for them: a text that changes when they do.
"""

from __future__ import annotations

import platform
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from invsolve.core.inspection import version_of
from invsolve.core.walk import Unidentified, Walk, join

if TYPE_CHECKING:
    from invsolve.core.problem import Problem
    from invsolve.core.solver import Solver

__all__ = ["Unidentified", "identify", "keyed_state", "run_identity"]


def keyed_state(value: Any, *named: str) -> dict[str, Any]:
    """The attributes of an object with a `key`, which stands for those that are `named` where it is given."""
    state = dict(vars(value))
    if state["key"] is not None:
        state = {name: entry for name, entry in state.items() if name not in named}
    return state


def identify(value: Any, where: str = "the value") -> str:
    """A hash of all that decides what `value` computes: 32 hexadecimal digits.

    Args:
        value: numbers, text, tensors, arrays, containers, modules, functions, and objects made of them.
        where: how a message calls it.

    Raises:
        Unidentified: a part of it has no identity of its own.
    """
    return Walk().digest(value, where).hex()


def run_identity(
    problem: Problem, solver: Solver, seed: int, keys: Sequence[tuple[Hashable, int]], microbatch: int
) -> str:
    """A hash of everything that decides a run's samples, bit for bit, versions included.

    Args:
        problem: prior with its condition and weights, cost, unknowns, shape.
        solver: with its settings.
        seed: of the noise.
        keys: (item, sample) of each row.
        microbatch: rows that run together.

    Raises:
        Unidentified: a part of it has no identity of its own.
    """
    walk = Walk()
    parts = [
        walk.digest(value, where)
        for where, value in {
            "the prior": problem.prior,
            "the cost": problem.cost,
            "the unknowns": problem.unknowns,
            "the shape": problem.shape,
            "the solver": solver,
            "the seed": seed,
            "the items": list(keys),
            "the microbatch": microbatch,
            "the precision": (str(problem.prior.dtype), problem.prior.device.type),
        }.items()
    ]
    versions = {name: version_of(name) for name in sorted(walk.packages | {"invsolve", "torch"})}
    return join(*parts, repr((versions, platform.python_version())).encode()).hex()
