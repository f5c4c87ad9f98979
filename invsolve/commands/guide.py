"""`invsolve guide`: draw a sheet of samples steered by a class, a classifier or a reward."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from invsolve.commands.options import add_options
from invsolve.core.checks import InputError
from invsolve.core.files import written_whole
from invsolve.io import check_target
from invsolve.restoration.options import Options

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the subcommand `guide`; the default `run` of its parser takes the parsed arguments."""
    parser = subparsers.add_parser("guide", help="draw samples guided by a class or a reward")
    add_options(parser, Options, ("prior", "device", "seed"), prior="digits", device="auto", seed=0)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--class", dest="label", type=int, metavar="LABEL", help="the class to draw")
    what.add_argument("--reward", metavar="MODULE:FUNCTION", help="images [N, C, H, W] in [0, 1] -> rewards [N]")
    temperature = "temperature T of the reward: samples follow p exp(reward / T)"
    parser.add_argument("--temperature", type=float, default=1.0, help=temperature)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--scale", help="scale of the gradient: adaptive:30, fixed:5, clip:5, soft:5, threshold:5")
    how.add_argument("--weight", help="weight of classifier-free guidance: 3, c2fg:1.5,0.6, interval:2,0.1,0.7, ...")
    parser.add_argument("--classifier", metavar="MODULE:FUNCTION", help="noisy classifier (x, sigma) -> logits")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--eta", type=float, default=1.0, help="0 deterministic, 1 ancestral")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("guided.png"), help="PNG file of all samples (default guided.png)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing sheet")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Draw the sheet, write a JSON record beside it, and return the exit code."""
    out: Path = args.out
    record_path = out.with_suffix(".json")
    if out.suffix.lower() != ".png":
        raise InputError(f"--out must be a .png file, got {out}")
    for path in (out, record_path):
        check_target(path, overwrite=args.overwrite)
    if args.samples < 1:
        raise InputError(f"--samples must be at least 1, got {args.samples}")
    options = Options(prior=args.prior, device=args.device)

    from invsolve.core.driver import solve
    from invsolve.guiding import Guide, guided, sheet
    from invsolve.restoration.loading import load_prior

    names = ("prior", "label", "reward", "temperature", "scale", "weight", "classifier", "steps", "eta")
    guide = Guide(**{name: getattr(args, name) for name in names})
    problem, solver = guided(guide, load_prior(options))
    result = solve(problem, solver, samples=args.samples, seed=args.seed, microbatch=256)
    lost = sum(sentence != "ok" for sentence in result.status[0])
    with written_whole(out) as part:
        sheet(result.samples[0].clamp(0, 1)).save(part, "PNG")
    asked = {"class": args.label, "reward": args.reward, "scale": args.scale, "weight": args.weight}
    asked |= {"classifier": args.classifier, "temperature": args.temperature if args.reward is not None else None}
    record = {key: value for key, value in asked.items() if value is not None}
    record |= {**result.config, "seed": args.seed, "samples": args.samples, "diverged": lost}
    record |= {"network_forwards": result.stats.network_forwards, "seconds": result.stats.seconds}
    with written_whole(record_path) as part:
        part.write_text(json.dumps(record, indent=1) + "\n")
    print(out)  # noqa: T201
    if lost:
        raise InputError(
            f"guidance diverged for {lost} of {args.samples} samples: use a lower --scale, more --steps, or --scale "
            "adaptive:..."
        )
    return 0
