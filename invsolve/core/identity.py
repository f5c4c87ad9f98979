"""One hash of everything that determines a result: operators, costs, priors, settings, and all their parts.

    identify(value)         equal contents have equal hashes, different contents different ones
    run_identity(...)       the hash of a whole run, which a checkpoint stores

Values are reduced to numbers, text and the bits of tensors; objects are identified neither by their `repr` nor by their
address. Functions and classes of the user are identified by their name, their code, and the global names that the code
reads; those of installed packages by their name. An object can define what determines its results with a method
`identity_state()` or `__getstate__`; otherwise its attributes do.

A lambda, a function that reads variables of another function, and an object that shows no state cannot be distinguished
from others of their kind. The library's own classes take a `key` for them: a text that changes whenever they change.
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
    """The attributes of an object with a `key`; if a key is given, it replaces the attributes that are `named`."""
    state = dict(vars(value))
    if state["key"] is not None:
        state = {name: entry for name, entry in state.items() if name not in named}
    return state


def identify(value: Any, where: str = "the value") -> str:
    """Hash everything that determines what `value` computes: 32 hexadecimal digits.

    Args:
        value: numbers, text, tensors, arrays, containers, modules, functions, and objects made of them.
        where: how error messages call the value.

    Raises:
        Unidentified: a part has no identity of its own.
    """
    return Walk().digest(value, where).hex()


def run_identity(
    problem: Problem, solver: Solver, seed: int, keys: Sequence[tuple[Hashable, int]], microbatch: int
) -> str:
    """Hash everything that determines a run's samples bit for bit, including versions.

    Args:
        problem: the prior with its condition and weights, cost, unknowns, shape.
        solver: the solver with its settings.
        seed: seed of the noise.
        keys: (item, sample) of each row.
        microbatch: number of rows that run together.

    Raises:
        Unidentified: a part has no identity of its own.
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
