"""Write docs/solvers.md from the registry of solvers: python docs/make_solvers.py"""

from __future__ import annotations

import inspect
from pathlib import Path

from invsolve.core.presets import published
from invsolve.core.solver import Solver
from invsolve.solvers import SOLVERS

PAGE = Path(__file__).parent / "solvers.md"
HEAD = """# Solvers

Made by `python docs/make_solvers.py`. Each solver is a frozen dataclass; its docstring holds the equations as
implemented, what they are proven to get right, the published settings and the network calls of a step.

| name | class | needs | unknown operator parameters | published presets | source |
|---|---|---|---|---|---|
"""


def needs(solver: type[Solver]) -> str:
    """What the solver asks of a problem, in words."""
    asked = solver.needs
    if solver is SOLVERS["ddnm"]:
        return "linear operator with SVD, Gaussian noise; any linear operator with `noisy=False`"
    if asked.svd:
        return "linear operator with SVD, Gaussian noise"
    if asked.linear:
        return "linear operator, Gaussian noise"
    if asked.likelihood:
        return "a measurement"
    return "any cost" if asked.cost else "nothing"


def page() -> str:
    """The page's text."""
    rows = []
    for name in SOLVERS:
        solver: type[Solver] = SOLVERS[name]
        head = (inspect.getdoc(inspect.getmodule(solver)) or "").splitlines()[0].rstrip(".")
        presets = ", ".join(f"`{key}`" for key in published(name)) or "-"
        blind = "yes" if solver.needs.blind else "no"
        cells = [f"`{name}`", f"`{solver.__name__}`: {head}", needs(solver), blind, presets, solver.cite]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
