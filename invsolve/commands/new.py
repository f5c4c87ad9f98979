"""The command `invsolve new`: a working, tested package for an operator of one's own."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from invsolve.core.checks import InputError

__all__ = ["add_parser", "operator_package"]

PYPROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{dashed}"
version = "0.1.0"
description = "A forward operator for invsolve"
requires-python = ">=3.11"
dependencies = ["invsolve"]

[project.entry-points."invsolve.operators"]
{dashed} = "{module}:{title}"

[tool.setuptools]
py-modules = ["{module}"]

[tool.pytest.ini_options]
pythonpath = ["."]
"""

MODULE = '''"""A forward operator for invsolve: replace `forward` (and what it needs) by your own."""

from __future__ import annotations

from torch import Tensor

from invsolve import LinearOperator


class {title}(LinearOperator):
    """Keeps every other line: y = x[0::2].

    A non-linear operator derives from `invsolve.Operator` instead. The adjoint, pseudo-inverse and normal solves of a
    linear one are derived; give faster ones by overriding `adjoint`, `pinv` and `solve_normal`. Draw what is random
    here, once; keep tensors in `invsolve.core.operator.Constants`, so that they follow the image's precision.

    Args:
        in_shape: (channels, height, width) of one image, in [0, 1].
    """

    def __init__(self, in_shape: tuple[int, int, int]) -> None:
        channels, height, width = in_shape
        self.in_shape, self.out_shape = tuple(in_shape), (channels, (height + 1) // 2, width)

    def forward(self, x: Tensor, theta={{}}) -> Tensor:
        return x[:, :, 0::2]
'''

TEST = '''"""The operator keeps what solvers rely on, and a solver restores with it."""

import torch

import invsolve as iv
from invsolve import costs, priors, solvers
from invsolve.testing import check_operator
from {module} import {title}


def test_contract():
    check_operator({title}((3, 8, 8))).raise_if_failed()


def test_a_solver_takes_it():
    operator = {title}((1, 4, 4))
    prior = priors.GaussianPrior(torch.full((1, 4, 4), 0.5), 0.05 * torch.eye(16))
    y = operator(torch.full((1, 1, 4, 4), 0.6))
    problem = iv.Problem(prior, costs.GaussianLikelihood(operator, y, 0.05))
    result = iv.solve(problem, solvers.NDTM(n_steps=4, n_inner=1))
    assert result.ok
'''

README = """# {dashed}

    pip install -e .
    invsolve check {dashed}        # all that solvers rely on; {module}:{title} does, too, without installing
    pytest
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add `new` to a command line; the parser's default `run` takes the parsed arguments."""
    parser = subparsers.add_parser("new", help="write a package for an operator of your own")
    parser.add_argument("kind", choices=["operator"], help="what to write")
    parser.add_argument("name", help="of the package and its folder, such as line-sensor")
    parser.set_defaults(run=run_command)
    return parser


def run_command(args: argparse.Namespace) -> int:
    """Write the package into the working folder."""
    folder = operator_package(args.name, Path.cwd())
    sys.stdout.write(f"{folder}\n  cd {folder.name}; pip install -e .; invsolve check {folder.name}; pytest\n")
    return 0


def operator_package(name: str, where: Path) -> Path:
    """Write a package named `name` into the folder `where`, whole or not at all, and return its folder.

    Raises:
        InputError: a name that is none, or a folder that exists.
    """
    words = [word for word in re.split(r"[-_\s]+", name.strip()) if word]
    module = "_".join(words).lower()
    if not module.isidentifier():
        raise InputError(f"a name is made of letters, digits and dashes and starts with a letter, got {name!r}")
    title = "".join(word[:1].upper() + word[1:] for word in words)
    names = {"module": module, "dashed": module.replace("_", "-"), "title": title}
    folder = where / names["dashed"]
    if folder.exists():
        raise InputError(f"{folder} exists: choose another name, or move it away")
    files = {
        "pyproject.toml": PYPROJECT,
        f"{module}.py": MODULE,
        f"tests/test_{module}.py": TEST,
        "README.md": README,
    }
    with tempfile.TemporaryDirectory(dir=where) as made:
        for path, text in files.items():
            target = Path(made) / path
            target.parent.mkdir(exist_ok=True)
            target.write_text(text.format(**names), encoding="utf-8")
        shutil.copytree(made, folder)
    return folder
