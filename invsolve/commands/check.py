"""The command `invsolve check`: conformance checks of a user's operator, solver, prior or cost."""

from __future__ import annotations

import argparse
import inspect
import sys
from typing import Any

from invsolve.commands.options import add_set, read_settings
from invsolve.core.checks import InputError, nearest
from invsolve.core.registry import Registry

__all__ = ["KINDS", "add_parser", "registries"]

KINDS = ("operator", "solver", "prior", "cost")
FEW = 8
"""Steps of a solver if --set does not give them."""

EXAMPLES = """examples:
  invsolve check my_module:MyOperator
  invsolve check my_module:MyOperator --in-shape 1 64 64 --set factor=2
  invsolve check my_module:MySolver --set n_steps=6
  invsolve check my_module:MyLikelihood
  invsolve check super-resolution
  invsolve check gaussian --kind cost
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the subcommand `check`; the default `run` of its parser takes the parsed arguments."""
    parser = subparsers.add_parser(
        "check",
        help="check your own operator, solver, prior or cost",
        description="Check that an operator, solver, prior or cost has the properties that the rest of the library "
        "relies on. The exit code is 0 if all checks pass, 1 if not.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("part", help="module:attribute (the part, a class or a function that makes one), or a registered name")
    add("--kind", choices=KINDS, help="kind of a registered name, if several kinds have that name")
    add("--in-shape", type=int, nargs="+", metavar="N", help="operators, costs: sizes of one image (default 3 32 32)")
    add_set(parser, "an argument of the class; a solver runs about 25 times, with n_steps=8 if not given")
    add("--float32", action="store_true", help="operators, costs: check in float32 (default float64, which is sharper)")
    add("--low", type=float, default=0.0, help="operators, costs: least value of the random images (default 0)")
    add("--high", type=float, default=1.0, help="operators, costs: largest value (default 1)")
    add("--skip", nargs="+", default=[], metavar="CHECK", help="names of checks to ignore")
    parser.set_defaults(run=run_command)
    return parser


def run_command(args: argparse.Namespace) -> int:
    """Check one part and print the report."""
    settings = read_settings(args.settings, "factor=2")
    kind = args.kind or _kind(args.part)
    report = {"operator": _operator, "solver": _solver, "prior": _prior, "cost": _cost}[kind](args, settings)
    checks = [check for check in report.checks if check.name not in args.skip]
    failed = sum(not check.passed for check in checks)
    verdict = f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed"
    sys.stdout.write(f"{report}\n{verdict}\n")
    return 1 if failed else 0


def registries() -> dict[str, Registry]:
    """Return the registry for each kind of part."""
    from invsolve.costs import COSTS
    from invsolve.operators import OPERATORS
    from invsolve.priors import PRIORS
    from invsolve.solvers import SOLVERS

    return {"operator": OPERATORS, "solver": SOLVERS, "prior": PRIORS, "cost": COSTS}


def _kind(name: str) -> str:
    """Return the kind of part that a name refers to.

    Raises:
        InputError: if the name is unknown, or refers to parts of several kinds.
    """
    from invsolve.core.cost import TerminalCost
    from invsolve.core.prior import Prior
    from invsolve.core.registry import load_attribute
    from invsolve.core.solver import Solver

    if ":" not in name:
        known_by = registries()
        kinds = [kind for kind, registry in known_by.items() if name in registry]
        if len(kinds) > 1:
            raise InputError(f"{name} is {' and '.join(f'a {kind}' for kind in kinds)}: choose with --kind")
        if not kinds:
            known = [known for registry in known_by.values() for known in registry]
            raise InputError(f"nothing is named {name!r}; {nearest(name, known)}; or give module:attribute")
        return kinds[0]
    found = load_attribute(name)
    for kind, base in (("solver", Solver), ("prior", Prior), ("cost", TerminalCost)):
        if isinstance(found, base) or (isinstance(found, type) and issubclass(found, base)):
            return kind
    return "operator"


def _operator(args: argparse.Namespace, settings: dict[str, Any]) -> Any:
    from invsolve.testing.operators import check_operator

    operator, theta = _made(args.part, args.in_shape, settings)
    return check_operator(operator, dtype=_dtype(args), theta=theta, low=args.low, high=args.high)


def _solver(args: argparse.Namespace, settings: dict[str, Any]) -> Any:
    from dataclasses import fields, is_dataclass

    from invsolve.core.registry import load_attribute
    from invsolve.core.settings import made_with
    from invsolve.core.solver import Solver
    from invsolve.solvers import SOLVERS
    from invsolve.testing.solvers import check_solver

    found = load_attribute(args.part) if ":" in args.part else SOLVERS[args.part]
    if isinstance(found, type) and is_dataclass(found):
        few = {"n_steps": FEW} if "n_steps" in [field.name for field in fields(found)] else {}
        found = _or_error(lambda: made_with(found, {**few, **settings}, args.part), args.part)
    elif not isinstance(found, Solver):
        found = _or_error(lambda: found(**settings), args.part)
    return check_solver(found)


def _prior(args: argparse.Namespace, settings: dict[str, Any]) -> Any:
    from invsolve import priors
    from invsolve.testing.priors import check_prior

    return check_prior(priors.load(args.part, **settings))


def _cost(args: argparse.Namespace, settings: dict[str, Any]) -> Any:
    from invsolve.core.cost import Likelihood, TerminalCost
    from invsolve.core.registry import load_attribute
    from invsolve.costs import COSTS
    from invsolve.testing.cost_examples import SHAPE, THETA, cost_example, likelihood_of
    from invsolve.testing.costs import check_cost

    found = load_attribute(args.part) if ":" in args.part else COSTS[args.part]

    def make() -> TerminalCost:
        if isinstance(found, TerminalCost):
            return found
        if isinstance(found, type) and issubclass(found, Likelihood):
            return likelihood_of(found, THETA.get(args.part), **settings)
        return cost_example(args.part) if isinstance(found, type) and not settings else found(**settings)

    cost = _or_error(make, args.part)
    shape = None if isinstance(cost, Likelihood) else tuple(args.in_shape or SHAPE)
    theta = THETA.get(args.part, {})
    return check_cost(cost, in_shape=shape, dtype=_dtype(args), theta=theta, low=args.low, high=args.high)


def _dtype(args: argparse.Namespace) -> Any:
    import torch

    return torch.float32 if args.float32 else torch.float64


def _or_error(make: Any, name: str) -> Any:
    """Return `make()`; convert any other exception into an `InputError`."""
    try:
        return make()
    except InputError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise InputError(f"{name} cannot be created: {told}; give its arguments with --in-shape and --set") from error


def _made(name: str, in_shape: list[int] | None, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the operator and values of its unknown parameters, three of each."""
    from invsolve.core.operator import Operator
    from invsolve.operators import OPERATORS, as_operator
    from invsolve.testing.examples import EXAMPLES

    if name in EXAMPLES and in_shape is None and not settings:
        example = EXAMPLES[name]()
        return example.operator, example.theta(3)
    made = OPERATORS[name]
    if not isinstance(made, Operator):
        shape = {"in_shape": tuple(in_shape or (3, 32, 32))}
        make = made
        made = _or_error(
            lambda: make(**(shape if "in_shape" in inspect.signature(make).parameters else {}), **settings), name
        )
    operator = as_operator(made, in_shape=tuple(in_shape) if in_shape and not isinstance(made, Operator) else None)
    if operator.parameters:
        raise InputError(
            f"{name} has unknown parameters ({', '.join(operator.parameters)}): check it in Python, "
            "check_operator(operator, theta={...})"
        )
    return operator, {}
