"""The command `invsolve new`: a working, tested package for a user's own operator, solver, prior or cost."""

from __future__ import annotations

import argparse
import keyword
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from invsolve.commands.check import registries
from invsolve.commands.templates import PYPROJECT, README, TEMPLATES
from invsolve.core.checks import InputError

__all__ = ["add_parser", "write_package"]


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the subcommand `new`; the default `run` of its parser takes the parsed arguments."""
    parser = subparsers.add_parser("new", help="write a package for an operator, solver, prior or cost of your own")
    parser.add_argument("kind", choices=list(TEMPLATES), help="what to write")
    parser.add_argument("name", help="name of the package and its folder, such as line-sensor")
    parser.set_defaults(run=run_command)
    return parser


def run_command(args: argparse.Namespace) -> int:
    """Write the package into the working folder."""
    folder = write_package(args.kind, args.name, Path.cwd())
    sys.stdout.write(f"{folder}\n  cd {folder.name}; pip install -e .; invsolve check {folder.name}; pytest\n")
    return 0


def write_package(kind: str, name: str, where: Path) -> Path:
    """Write a package for a part of the given kind; nothing is left behind on an error.

    Args:
        kind: "operator", "solver", "prior" or "cost".
        name: name of the package and, in other spellings, of its module and class.
        where: the folder in which the package folder is created.

    Returns:
        The package folder.

    Raises:
        InputError: if the name is invalid or already used, or the folder exists.
    """
    words = [word for word in re.split(r"[-_\s]+", name.strip()) if word]
    module = "_".join(words).lower()
    if not module.isidentifier():
        raise InputError(f"a name must be letters, digits and dashes, starting with a letter, got {name!r}")
    if keyword.iskeyword(module):
        raise InputError(f"{module} is a Python keyword: choose another name")
    if {name.strip(), module, module.replace("_", "-")} & registries()[kind].builtin.keys():
        raise InputError(f"{name.strip()} is the name of one of invsolve's own {kind}s: choose another name")
    title = "".join(word[:1].upper() + word[1:] for word in words)
    template = TEMPLATES[kind]
    names = {
        "kind": kind,
        "description": template.description,
        "module": module,
        "dashed": module.replace("_", "-"),
        "title": title,
    }
    folder = where / names["dashed"]
    if folder.exists():
        raise InputError(f"{folder} exists: choose another name, or move it away")
    files = {
        "pyproject.toml": PYPROJECT,
        f"{module}.py": template.module,
        f"tests/test_{module}.py": template.test,
        "README.md": README,
    }
    with tempfile.TemporaryDirectory(dir=where) as made:
        for path, text in files.items():
            target = Path(made) / path
            target.parent.mkdir(exist_ok=True)
            target.write_text(text.format(**names), encoding="utf-8")
        shutil.copytree(made, folder)
    return folder
