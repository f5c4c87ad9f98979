"""Run every solver that uses a measurement on every registered operator, and write the outcomes to docs/operators.md.

python docs/make_operators.py          # runs all pairs (a few minutes), stores docs/operators.json, writes the table
python docs/make_operators.py --page   # only writes the table again from the stored runs
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BEGIN, END = "<!-- matrix: python docs/make_operators.py -->", "<!-- end of matrix -->"
SMALL: Mapping[str, Any] = {
    "n_steps": 2, "n_inner": 2, "n_iterations": 2, "n_particles": 2, "n_cg": 2, "n_draws": 2, "n_langevin": 2,
    "n_samples": 2, "n_ode": 2, "n_repeats": 1, "n_travel": 1,
}  # fmt: skip
"""Settings that make a run short, for solvers that have them."""


def run_all(stored: Path, only: Sequence[str] | None = None) -> None:
    """Store {operator: {solver: "ok" or the reason for failure}} for every registered pair, operator by operator."""
    import torch

    from invsolve.operators import OPERATORS
    from invsolve.solvers import SOLVERS

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    table = json.loads(stored.read_text()) if only and stored.exists() else {}
    for operator in only or OPERATORS:
        table[operator] = {name: run_one(operator, name) for name in sorted(SOLVERS) if SOLVERS[name].needs.cost}
        stored.write_text(json.dumps(dict(sorted(table.items())), indent=0) + "\n")
        sys.stderr.write(f"{operator}\n")


def run_one(operator_name: str, solver_name: str) -> str:
    """Return "ok" if the solver's run succeeded, and the error message otherwise."""
    import torch

    import invsolve as iv
    from invsolve import costs
    from invsolve.solvers import SOLVERS
    from invsolve.testing.examples import example

    class Plain(iv.Prior):
        """Independent Gaussian pixels, mean 0.5, variance 0.1, in any shape."""

        schedule, value_range, bounded = iv.DDPMSchedule(), (0.0, 1.0), False

        def denoise(self, x_t, t):
            alpha, sigma = self.schedule(t)
            return 0.5 + 0.1 * alpha / (0.1 * alpha**2 + sigma**2) * (x_t - 0.5 * alpha)

    try:
        made = example(operator_name)
        x = torch.full((1, *made.operator.in_shape), 0.5)
        theta = made.theta(1, torch.float32)
        y = costs.GaussianLikelihood(made.operator, None, 0.05).simulate(x, iv.Rng(0), theta)
        kind = SOLVERS[solver_name]
        names = {field.name for field in dataclasses.fields(kind)}
        settings = {name: value for name, value in SMALL.items() if name in names}
        if getattr(kind, "start", None) == "guided":  # start from noise: not every measurement shows an image
            settings["start"] = "random"
        solver = kind(**settings)
        problem = iv.Problem(Plain(), costs.GaussianLikelihood(made.operator, y, 0.05), made.unknowns)
        result = iv.solve(problem, solver)
        return "ok" if result.ok else str(result.status[0][0])
    except iv.InvsolveError as error:
        return str(error)


def table(runs: Mapping[str, Mapping[str, str]]) -> str:
    """The matrix as Markdown: a dot for a run that succeeded, a letter for each reason of failure."""
    solvers = sorted(next(iter(runs.values())))
    reasons: dict[str, str] = {}
    lines = ["| | " + " | ".join(f"`{name}`" for name in solvers) + " |", "|---|" + ":-:|" * len(solvers)]
    for operator, row in runs.items():
        cells = []
        for solver in solvers:
            if row[solver] == "ok":
                cells.append("•")
                continue
            reason = row[solver].removeprefix(f"{solver} ")
            for name in (
                "needs a linear",
                "needs an operator with a singular",
                "cannot estimate",
                "torchkbnufft",
                "no image follows",
            ):
                if name in row[solver]:
                    reason = name
            cells.append(reasons.setdefault(reason, chr(ord("a") + len(reasons))))
        lines.append(f"| `{operator}` | " + " | ".join(cells) + " |")
    words = {
        "needs a linear": "the solver needs a linear operator with Gaussian noise",
        "needs an operator with a singular": "the solver needs a singular value decomposition",
        "cannot estimate": "the solver cannot estimate unknown parameters",
        "no image follows": "the solver starts from an image, and none follows from this measurement",
        "torchkbnufft": "the package torchkbnufft is not installed",
    }
    notes = [f"{letter}: {words.get(reason, reason)}" for reason, letter in reasons.items()]
    return "\n".join([*lines, "", "•: it ran. " + "; ".join(notes) + "."])


def page(runs: Mapping[str, Mapping[str, str]]) -> str:
    """docs/operators.md with the matrix of `runs`."""
    text = (HERE / "operators.md").read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table(runs)}\n\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="only write the table from the stored runs")
    parser.add_argument("--only", nargs="+", metavar="OPERATOR", help="run these again and keep the rest")
    parser.add_argument("--store", type=Path, default=HERE / "operators.json", help="where runs are stored")
    args = parser.parse_args()
    stored = args.store
    if not args.page:
        run_all(stored, args.only)
    if stored != HERE / "operators.json":
        return
    (HERE / "operators.md").write_text(page(json.loads(stored.read_text())), encoding="utf-8")


if __name__ == "__main__":
    main()
