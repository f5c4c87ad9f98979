"""Intervals on photographs that were not used for the calibration: python -m benchmarks.uncertainty PART

draw      restore 24 crops of each task, and keep the samples (continues where it stopped)
table     the contents of the packaged calibration
report    coverage by task and stratum, scores against widths without samples, the mean of the samples, the cost
sharing   factors of the promise "image": one for each degradation, or one shared by all of a kind
cost      processor seconds of six samples and of the point estimate
figure    a restored photograph with the widths of its intervals
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.common import markdown, psnr
from benchmarks.uncertainty import figure
from benchmarks.uncertainty.cost import costs
from benchmarks.uncertainty.images import held_out
from benchmarks.uncertainty.scales import LEVEL, constant, left_out_score, strata, without_samples
from benchmarks.uncertainty.sharing import sharing
from invsolve.bench.suite import TaskSpec
from invsolve.metrics.intervals import ause, interval_score
from invsolve.restoration.calibration import UNRELATED, Calibration, packaged_calibration
from invsolve.restoration.conformal import PROMISES
from invsolve.restoration.loading import load_prior
from invsolve.restoration.options import Options
from invsolve.restoration.uncertainty import Promise, Uncertainty
from invsolve.tune.calibrate import Setup, drawn_cases
from invsolve.tune.case import Case

TASKS = (
    TaskSpec("superres x4", "superres", 0.01, {"factor": 4}),
    TaskSpec("80 % missing", "inpaint", 0.01, {"missing": 0.8}),
    TaskSpec("hole of 16", "inpaint", 0.01, {"box": 16}),
    TaskSpec("Gaussian blur 2", "deblur", 0.01, {"std": 2.0}),
    TaskSpec("denoise 0.1", "denoise", 0.1),
    TaskSpec("JPEG 30", "jpeg", UNRELATED, {"compression": 30}),
    TaskSpec("superres x2", "superres", 0.01, {"factor": 2}),
    TaskSpec("motion blur 15", "deblur", 0.01, {"length": 15.0}),
    TaskSpec("50 % missing", "inpaint", 0.01, {"missing": 0.5}),
    TaskSpec("90 % missing", "inpaint", 0.01, {"missing": 0.9}),
    TaskSpec("denoise 0.05", "denoise", 0.05),
    TaskSpec("blind deblurring", "blind-deblur", 0.01),
)

BLIND_SIDE, BLIND_SEED = 192, 1000
"""Side of the crops for blind deblurring, and the seed of their kernels, which differ from those of the calibration."""

FIGURE = Path(__file__).parents[2] / "docs" / "images" / "interval-map.png"


def draw(folder: Path, side: int, names: Sequence[str]) -> None:
    """Restore every crop of the tasks and write the cases, one file per task."""
    setup = Setup(load_prior(Options()), "natural")
    images = torch.stack([image for _, image in held_out(side)])
    for spec in TASKS:
        path = folder / f"{spec.name}.pt"
        if names and spec.name not in names:
            continue
        if spec.kind == "blind-deblur":
            _draw_blind(replace(setup, seed=BLIND_SEED), spec, path)
            continue
        cases = [vars(case) for case in _cases(path)] if path.is_file() else []
        for case in drawn_cases(setup, spec, images[len(cases) :]):
            cases.append(vars(case))
            torch.save(cases, path)
            sys.stderr.write(f"{spec.name}: {len(cases)} of {len(images)}\n")


def _draw_blind(setup: Setup, spec: TaskSpec, path: Path) -> None:
    """All crops at once, unless the file exists: crops whose blur is not found leave no entry from which to resume."""
    if path.is_file():
        return
    images = torch.stack([image for _, image in held_out(BLIND_SIDE)])
    found = [vars(case) for case in drawn_cases(setup, spec, images)]
    torch.save(found, path)
    sys.stderr.write(f"{spec.name}: the blur was found in {len(found)} of {len(images)}\n")


def _cases(path: Path) -> list[Case]:
    return [Case(**fields) for fields in torch.load(path, weights_only=True)]


def table(calibration: Path | None) -> str:
    """The packaged or the given calibration as Markdown."""
    rows, known = [], [_table(calibration)]
    if calibration is None:
        known.append(_table(None, "blind-deblur"))
    for own_table, cell in ((each, cell) for each in known for cell in each.cells):
        own, parts = cell.measured, ("flat", "texture", "edges")
        sides = sorted({name.rpartition(" ")[0] for name in cell.average})
        q = [
            f"{side} {' / '.join(_two(cell.average.get(f'{side} {part}'.strip())) for part in parts)}".strip()
            for side in sides
        ]
        widened = f"{cell.widening(LEVEL):.2f} / {own_table.widening(cell.kind, LEVEL):.2f}"
        rows.append([
            own["task"], f"{cell.noise:g}", f"{own['coverage']:.3f}", f"{own['worst']:.2f}", f"{own['width']:.3f}",
            f"{own['interval_score']:.3f}", f"{own['ause']:.2f}", "; ".join(q), widened,
        ])  # fmt: skip
    head = ["degradation", "noise", "coverage", "worst image", "width", "interval score", "AUSE"]
    return markdown([*head, "q flat / texture / edges", "x for images, own / of the kind"], rows) + "\n"


def _two(q: Sequence[float] | None) -> str:
    return "-" if q is None else f"{q[2]:.2f}"


def _table(calibration: Path | None, task: str = "") -> Calibration:
    found = packaged_calibration("natural", task) if calibration is None else Calibration.read(calibration)
    if found is None:
        raise SystemExit("there is no packaged calibration: give --calibration")
    return found


def _uncertain(case: Case, spec: TaskSpec, table: Calibration) -> Uncertainty:
    return Uncertainty(case.centre, case.samples, case.kind, case.severity, spec.noise, case.known, table, "table")


def _inside(case: Case, told: Uncertainty, promise: Promise = "average") -> torch.Tensor:
    low, high = told.interval(LEVEL, promise)
    return (low <= case.truth) & (case.truth <= high)


def _width(low: torch.Tensor, high: torch.Tensor) -> float:
    return float((high - low).mean())


def _mean(values: Iterable[float]) -> float:
    rows = list(values)
    return sum(rows) / len(rows)


def report(folder: Path, calibration: Path | None) -> str:
    """Both tables as Markdown."""
    rows, parts, conditional = [], [], []
    for spec in TASKS:
        path = folder / f"{spec.name}.pt"
        if not path.is_file():
            continue
        cases, known = _cases(path), _table(calibration, spec.kind)
        told = [_uncertain(case, spec, known) for case in cases]
        inside = [_inside(*pair).double().mean() for pair in zip(cases, told, strict=True)]
        kept = [float(_inside(c, u, "image").double().mean()) >= LEVEL for c, u in zip(cases, told, strict=True)]
        spread = f" +- {torch.stack(inside).std() / len(inside) ** 0.5:.3f}" if len(inside) > 1 else ""
        ours = _mean(interval_score(*u.interval(LEVEL), c.truth, LEVEL) for c, u in zip(cases, told, strict=True))
        widths = [_mean(_width(*u.interval(LEVEL, promise)) for u in told) for promise in PROMISES]
        plain = _others(cases)
        point, mean = (_mean(psnr(x(c), c.truth) for c in cases) for x in (_centre, _average))
        outside = sum(u.factor(LEVEL, "average").outside != "" for u in told)
        rows.append([
            spec.name + (f" ({outside} outside)" if outside else ""), f"{_mean(map(float, inside)):.3f}{spread}",
            f"{min(inside):.2f}", f"{_mean(kept):.0%}", " / ".join(f"{width:.3f}" for width in widths), f"{ours:.4f}",
            *plain, f"{_mean(ause(c.error, c.scale) for c in cases):.2f}", f"{point:.2f}", f"{mean:.2f}",
            _cost(cases),
        ])  # fmt: skip
        parts.append(_strata(spec, cases, told))
        conditional.append(spec.name)
    head = [
        "task", "coverage of 90 %", "worst image", "images kept", "width, average / image", "interval score",
        "constant width", "best without samples", "AUSE", "point dB", "mean dB", "cost",
    ]  # fmt: skip
    columns = ["edges", "texture", "flat", "dark", "bright", "known", "missing"]
    second = [
        [name, *(part.get(column, "") for column in columns)] for name, part in zip(conditional, parts, strict=True)
    ]
    return f"{markdown(head, rows)}\n\n{markdown(['task', *columns], second)}\n"


def _cost(cases: Sequence[Case]) -> str:
    """Ratio of the times of the samples and of the point estimate, if the latter was measured."""
    samples, point = (_mean(case.seconds[i] for case in cases) for i in (0, 1))
    return f"{samples / point:.1f}" if point else "-"


def _others(cases: Sequence[Case]) -> tuple[str, str]:
    """Interval scores of a constant width and of the best width without samples; "-" for a single crop."""
    if len(cases) < 2:
        return "-", "-"
    scores = {n: left_out_score(cases, [without_samples(c)[n] for c in cases]) for n in without_samples(cases[0])}
    best = min(scores, key=lambda name: scores[name])
    return f"{left_out_score(cases, [constant(c) for c in cases]):.4f}", f"{scores[best]:.4f} ({best})"


def _centre(case: Case) -> torch.Tensor:
    return case.centre


def _average(case: Case) -> torch.Tensor:
    return case.samples.mean(0)


def _strata(spec: TaskSpec, cases: Sequence[Case], told: Sequence[Uncertainty]) -> dict[str, str]:
    """Coverage in each stratum, over all of its pixels."""
    counts: dict[str, list[float]] = {}
    for case, own in zip(cases, told, strict=True):
        inside = _inside(case, own)
        for name, where in strata(case).items():
            held, all_of = counts.setdefault(name, [0.0, 0.0])
            counts[name] = [held + float(inside[:, where].sum()), all_of + 3 * float(where.sum())]
    return {name: f"{held / all_of:.2f}" for name, (held, all_of) in counts.items() if all_of}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("draw")
    part.add_argument("folder", type=Path, help="folder of the samples")
    part.add_argument("--side", type=int, default=64)
    part.add_argument("--tasks", nargs="*", default=[])
    part.set_defaults(run=lambda a: draw(a.folder, a.side, a.tasks))
    part = parts.add_parser("table")
    part.add_argument("--calibration", type=Path, help="table in place of the packaged one")
    part.set_defaults(run=lambda a: sys.stdout.write(table(a.calibration)))
    part = parts.add_parser("report")
    part.add_argument("folder", type=Path, help="the folder of draw")
    part.add_argument("--calibration", type=Path, help="table in place of the packaged one")
    part.set_defaults(run=lambda a: sys.stdout.write(report(a.folder, a.calibration)))
    part = parts.add_parser("sharing")
    part.add_argument("--calibration", type=Path, help="table in place of the packaged one")
    part.set_defaults(run=lambda a: sys.stdout.write(sharing(_table(a.calibration))))
    part = parts.add_parser("cost")
    part.add_argument("--side", type=int, default=256)
    part.add_argument("--tasks", nargs="*", default=[])
    part.set_defaults(run=lambda a: sys.stdout.write(costs(a.side, a.tasks)))
    part = parts.add_parser("figure")
    part.add_argument("path", type=Path, nargs="?", default=FIGURE)
    part.set_defaults(run=lambda a: sys.stdout.write(figure.write(a.path) + "\n"))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
