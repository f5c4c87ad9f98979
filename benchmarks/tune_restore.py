"""Tune every solver's settings for `invsolve restore` on crops of training photographs, and write the preset table.

    python benchmarks/tune_restore.py --images DIR

Each picture gives one crop, its most detailed one, so that blurred backgrounds do not decide. The search starts at the
present table and random settings, then goes on around the best; it is seeded, and every trial is kept in --log, from
which an interrupted run goes on. Candidates are compared by the mean PSNR of one estimate a crop; samplers lose PENALTY
dB for each factor of two by which the rms misfit of the data misses the noise level, beyond TOLERANCE. Of the
candidates within MARGIN dB of the best, the one with the fewest network calls is kept. Solvers that are not named keep
their settings. Pictures that results are reported on must not be in DIR.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tuning_spaces import SPACES

from invsolve import InvsolveError, Problem, Rng, priors, solve, solvers
from invsolve.core.prior import Prior
from invsolve.costs import GaussianLikelihood
from invsolve.io import SUFFIXES, read_picture
from invsolve.restoration.presets import table
from invsolve.restoration.tasks import Deblur, Denoise, Inpaint, Superres, Task, resized

MARGIN, PENALTY, TOLERANCE = 0.03, 2.0, 0.1
LONGEST = 700
MODE_SEEKING = frozenset({"pnp-hqs", "red-diff"})


@dataclass(frozen=True)
class Case:
    """A task at one noise level, with its section of the table."""

    section: str
    task: Task
    noise: float


@dataclass(frozen=True)
class Trial:
    """What one candidate reached."""

    settings: dict[str, Any]
    psnr: float
    misfit: float
    calls: float

    def value(self, solver: str) -> float:
        """PSNR, for samplers less the penalty on the misfit; -inf where the run failed."""
        if not math.isfinite(self.psnr):
            return -math.inf
        off = 0.0 if solver in MODE_SEEKING else max(0.0, abs(math.log2(max(self.misfit, 1e-6))) - TOLERANCE)
        return self.psnr - PENALTY * off


def cases(size: int) -> list[Case]:
    """The tasks as they are tuned; masks and noise levels are those that the README's table names."""
    missing = Rng(0, [("mask", 0)]).uniform(torch.empty(1, size, size))[0] >= 0.5
    return [
        Case("denoise", Denoise(), 0.05),
        Case("denoise", Denoise(), 0.1),
        Case("superres2", Superres(2), 0.01),
        Case("superres4", Superres(4), 0.01),
        Case("inpaint", Inpaint(missing), 0.01),
        Case("deblur", Deblur.gaussian(2.0), 0.01),
    ]


def crops(folder: Path, count: int, size: int) -> Tensor:
    """The most detailed crop of `count` pictures, spread over the folder in the order of their names, [n, 3, s, s]."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(files) < count:
        raise SystemExit(f"{folder} holds {len(files)} pictures, {count} are needed")
    chosen = [files[i * len(files) // count] for i in range(count)]
    return torch.stack([_detailed(read_picture(path).pixels.expand(3, -1, -1), size) for path in chosen])


def _detailed(picture: Tensor, size: int) -> Tensor:
    height, width = picture.shape[1:]
    scale = max(min(1.0, LONGEST / max(height, width)), size / min(height, width))
    height, width = max(size, round(height * scale)), max(size, round(width * scale))
    picture = resized(picture, (height, width)).clamp(0, 1)
    places = [(t, x) for t in range(0, height - size + 1, 16) for x in range(0, width - size + 1, 16)]
    detail = (picture[:, 1:, 1:] - picture[:, :-1, 1:]).abs() + (picture[:, 1:, 1:] - picture[:, 1:, :-1]).abs()
    top, left = max(places, key=lambda p: float(detail[:, p[0] : p[0] + size - 1, p[1] : p[1] + size - 1].mean()))
    return picture[:, top : top + size, left : left + size]


def evaluate(solver: str, settings: dict[str, Any], chosen: Sequence[Case], clean: Tensor, prior: Prior) -> Trial:
    """Run one candidate on every crop of every case."""
    psnrs, misfits, calls = [], [], 0.0
    for case in chosen:
        pairs = [case.task.degrade(picture) for picture in clean]
        y, truth = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        y = y + case.noise * Rng(0, [(i, 0) for i in range(len(clean))]).normal(y)
        size = (y.shape[2], y.shape[3])
        operator = case.task.operator(3, size)
        problem = Problem(prior, GaussianLikelihood(operator, y, case.noise))
        try:
            result = solve(problem, solvers.SOLVERS[solver](**settings))
        except InvsolveError:
            return Trial(settings, -math.inf, math.inf, math.inf)
        x = result.samples[:, 0]
        if not result.ok or not bool(torch.isfinite(x).all()):
            return Trial(settings, -math.inf, math.inf, math.inf)
        error = (case.task.visible(x, size).clamp(0, 1) - truth).square().flatten(1).mean(1)
        psnrs += (-10 * torch.log10(error)).tolist()
        kept = case.task.known(y[0])
        residual = (y - operator(x)) if kept is None else (y - operator(x))[..., kept]
        misfits += (residual.flatten(1).square().mean(1).sqrt() / case.noise).tolist()
        calls += (result.stats.network_forwards + 2 * result.stats.network_backwards) / len(chosen)
    return Trial(settings, sum(psnrs) / len(psnrs), math.exp(sum(map(math.log, misfits)) / len(misfits)), calls)


class Tuner:
    """The search, and the log of its trials."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.prior = priors.load(args.prior, **({"dtype": torch.bfloat16} if args.bf16 else {}))
        self.clean = crops(args.images, args.crops, args.size)
        self.log: dict[str, list[Any]] = json.loads(args.log.read_text()) if args.log.is_file() else {}

    def trial(self, solver: str, section: str, settings: dict[str, Any], *, few: bool) -> Trial:
        """Evaluate one candidate, on a third of the crops if `few`; from the log where it is there."""
        clean = self.clean[:: 3 if few else 1]
        key = json.dumps(
            [self.args.prior, section, solver, self.args.size, self.args.crops, few, settings], sort_keys=True
        )
        if key not in self.log:
            chosen = [case for case in cases(self.args.size) if case.section == section]
            done = evaluate(solver, settings, chosen, clean, self.prior)
            self.log[key] = [done.psnr, done.misfit, done.calls]
            part = self.args.log.with_name(self.args.log.name + ".part")
            part.write_text(json.dumps(self.log, indent=0))
            part.replace(self.args.log)
        found = Trial(settings, *self.log[key])
        print(
            f"{section:10} {solver:8} {'few' if few else 'all'} {found.psnr:6.2f} dB misfit {found.misfit:5.2f} "
            f"calls {found.calls:4.0f}  {settings}",
            flush=True,
        )
        return found

    def tune(self, solver: str, section: str) -> Trial:
        """The best candidate found for one solver on one task."""
        fixed, space = SPACES[solver]
        rng = random.Random(f"{self.args.seed} {solver} {section}")
        drawn = [{**fixed, **{k: v.draw(rng) for k, v in space.items()}} for _ in range(self.args.trials)]
        present = table(self.args.prior).get(section, {}).get(solver)
        if present is not None:
            drawn.insert(0, {**fixed, **{k: getattr(solvers.SOLVERS[solver](), k) for k in space}, **present})
        coarse = sorted((self.trial(solver, section, s, few=True) for s in drawn), key=lambda t: -t.value(solver))
        best = [self.trial(solver, section, t.settings, few=False) for t in coarse[:2]]
        for i in range(self.args.trials // 2):
            origin = max(best, key=lambda t: t.value(solver)).settings
            width = 0.25 * 0.85**i
            moved = {k: v.near(origin[k], width, rng) for k, v in space.items()}
            best.append(self.trial(solver, section, {**fixed, **moved}, few=False))
        top = max(t.value(solver) for t in best)
        return min((t for t in best if t.value(solver) >= top - MARGIN), key=lambda t: t.calls)


def write(
    path: Path, head: Sequence[str], tuned: Mapping[str, Mapping[str, Trial]], present: Mapping[str, Any]
) -> None:
    """Write the table: solvers of a section from the best to the worst, each with what it reached."""
    lines = [f"# {line}" for line in head]
    for section, trials in tuned.items():
        order = sorted((n for n in trials if math.isfinite(trials[n].psnr)), key=lambda name: -trials[name].psnr)
        samplers = sorted((n for n in order if n not in MODE_SEEKING), key=lambda n: -trials[n].value(n))
        sampler = samplers[0] if samplers else present.get(section, {}).get("samples", order[0])
        lines += ["", f"[{section}]", f'point = "{order[0]}"', f'samples = "{sampler}"']
        for name in order:
            trial = trials[name]
            inside = ", ".join(f"{key} = {_toml(value)}" for key, value in trial.settings.items())
            lines.append(
                f"# {trial.psnr:.2f} dB, misfit {trial.misfit:.2f} of the noise, cost {trial.calls:.0f} forwards"
            )
            lines.append(f"{name} = {{ {inside} }}")
        others = {n: s for n, s in present.get(section, {}).items() if isinstance(s, Mapping) and n not in trials}
        for name, settings in others.items():
            inside = ", ".join(f"{key} = {_toml(value)}" for key, value in settings.items())
            lines += ["# kept from an earlier table", f"{name} = {{ {inside} }}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def main() -> None:
    """Tune, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="training photographs")
    parser.add_argument("--out", type=Path, default=Path("invsolve/presets/natural.toml"))
    parser.add_argument("--log", type=Path, default=Path("runs/tune_restore.json"), help="trials, to go on from")
    parser.add_argument("--prior", default="natural")
    parser.add_argument("--solvers", nargs="*", default=sorted(SPACES), choices=sorted(SPACES))
    parser.add_argument("--tasks", nargs="*", default=["denoise", "superres2", "superres4", "inpaint", "deblur"])
    parser.add_argument("--crops", type=int, default=9, help="pictures (default 9)")
    parser.add_argument("--size", type=int, default=128, help="side of a crop in pixels (default 128)")
    parser.add_argument("--trials", type=int, default=16, help="random candidates of a solver and task (default 16)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="run the network in bfloat16")
    args = parser.parse_args()
    args.log.parent.mkdir(parents=True, exist_ok=True)
    tuner = Tuner(args)
    tuned = {section: {solver: tuner.tune(solver, section) for solver in args.solvers} for section in args.tasks}
    digest = hashlib.sha256(tuner.clean.numpy().tobytes()).hexdigest()[:16]
    words = ["PHOTOS" if word == str(args.images) else word for word in sys.argv]
    head = [
        "Solver settings of `invsolve restore` for the prior `natural`, by task.",
        "`point` is the solver of point estimates, `samples` that of posterior samples (--samples N).",
        "Above each solver: mean PSNR of one estimate on the tuning crops, misfit of the data, network calls.",
        f"Made by: python {shlex.join(words)}",
        f"on {args.crops} crops of {args.size} pixels (SHA-256 {digest}...); never on pictures that results name.",
    ]
    write(args.out, head, tuned, table(args.prior))
    print(args.out)


if __name__ == "__main__":
    main()
