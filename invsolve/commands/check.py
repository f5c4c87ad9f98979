"""The command `invsolve check`: the conformance checks on an operator of one's own."""

from __future__ import annotations

import argparse
import inspect
import sys
from typing import Any

from invsolve.commands.options import add_set, read_settings
from invsolve.core.checks import InputError

__all__ = ["add_parser"]

EXAMPLES = """examples:
  invsolve check my_module:MyOperator
  invsolve check my_module:MyOperator --in-shape 1 64 64 --set factor=2
  invsolve check super-resolution
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add `check` to a command line; the parser's default `run` takes the parsed arguments."""
    parser = subparsers.add_parser(
        "check",
        help="check an operator of your own",
        description="Check that an operator keeps what solvers rely on; exit code 0 if it does, 1 if not.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("operator", help="module:attribute (an operator, a class or a function that makes one), or a registered name")
    add("--in-shape", type=int, nargs="+", metavar="N", help="sizes of one sample (default 3 32 32)")
    add_set(parser, "an argument of the class")
    add("--float32", action="store_true", help="check in float32 (default float64, which is sharper)")
    add("--low", type=float, default=0.0, help="least value of the random images (default 0)")
    add("--high", type=float, default=1.0, help="largest value (default 1)")
    add("--skip", nargs="+", default=[], metavar="CHECK", help="names of checks that do not count")
    parser.set_defaults(run=run_command)
    return parser


def run_command(args: argparse.Namespace) -> int:
    """Check one operator and print the report."""
    import torch

    from invsolve.testing.operators import check_operator

    settings = read_settings(args.settings, "factor=2")
    operator, theta = _made(args.operator, args.in_shape, settings)
    report = check_operator(
        operator,
        dtype=torch.float32 if args.float32 else torch.float64,
        theta=theta,
        low=args.low,
        high=args.high,
        skip=args.skip,
    )
    failed = len(report.failures)
    verdict = f"{failed} of {len(report.checks)} checks failed" if failed else f"all {len(report.checks)} checks passed"
    sys.stdout.write(f"{report}\n{verdict}\n")
    return 1 if failed else 0


def _made(name: str, in_shape: list[int] | None, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The operator and values of its unknown parameters, three of each."""
    from invsolve.core.operator import Operator
    from invsolve.operators import OPERATORS, as_operator
    from invsolve.testing.examples import EXAMPLES

    if name in EXAMPLES and in_shape is None and not settings:
        example = EXAMPLES[name]()
        return example.operator, example.theta(3)
    made = OPERATORS[name]
    if not isinstance(made, Operator):
        try:
            wanted = inspect.signature(made).parameters
            shape = tuple(in_shape or (3, 32, 32))
            made = made(in_shape=shape, **settings) if "in_shape" in wanted else made(**settings)
        except InputError:
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise InputError(f"{name} cannot be made: {told}; give its arguments with --in-shape and --set") from error
    operator = as_operator(made, in_shape=tuple(in_shape) if in_shape and not isinstance(made, Operator) else None)
    if operator.parameters:
        raise InputError(
            f"{name} has unknown parameters ({', '.join(operator.parameters)}): check it in Python, "
            "check_operator(operator, theta={...})"
        )
    return operator, {}
