"""`invsolve guide`: draw a sheet of samples steered by a class, a classifier or a reward."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from invsolve.commands.options import add_options
from invsolve.core.checks import InputError
from invsolve.core.files import written_whole
from invsolve.restoration.options import Options

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add `guide` to a command line; the parser's default `run` takes the parsed arguments."""
    parser = subparsers.add_parser("guide", help="draw samples steered by a class or a reward")
    add_options(parser, Options, ("prior", "device", "seed"), prior="digits", device="auto", seed=0)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--class", dest="label", type=int, metavar="LABEL", help="the class to draw")
    what.add_argument("--reward", metavar="MODULE:FUNCTION", help="images [N, C, H, W] in [0, 1] -> rewards [N]")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the reward: samples of p exp(reward / T)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--scale", help="of the gradient: adaptive:30, fixed:5, clip:5, soft:5, threshold:5")
    how.add_argument("--weight", help="classifier-free instead: 3, c2fg:1.5,0.6, interval:2,0.1,0.7, ...")
    parser.add_argument("--classifier", metavar="MODULE:FUNCTION", help="noisy classifier (x, sigma) -> logits")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--eta", type=float, default=1.0, help="0 deterministic, 1 ancestral")
    parser.add_argument("-o", "--out", type=Path, default=Path("guided.png"), help="the sheet, a PNG (guided.png)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing sheet")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Draw the sheet, with a JSON record beside it; returns the exit code."""
    out: Path = args.out
    record_path = out.with_suffix(".json")
    if out.suffix.lower() != ".png" or not out.parent.is_dir():
        raise InputError(f"the sheet is a PNG in a folder that exists, got {out}")
    for path in (out, record_path):
        if path.exists() and not args.overwrite:
            raise InputError(f"{path} exists: name another with -o or use --overwrite")
    if args.samples < 1:
        raise InputError(f"--samples must be at least 1, got {args.samples}")
    options = Options(prior=args.prior, device=args.device)

    from invsolve.core.driver import solve

    problem, solver = _task(args, options)
    result = solve(problem, solver, samples=args.samples, seed=args.seed, microbatch=256)
    lost = sum(sentence != "ok" for sentence in result.status[0])
    sheet = _sheet(result.samples[0].clamp(0, 1))
    _write(sheet, out)
    asked = {"class": args.label, "reward": args.reward, "scale": args.scale, "weight": args.weight}
    record = {key: value for key, value in asked.items() if value is not None}
    record |= {**result.config, "seed": args.seed, "samples": args.samples, "diverged": lost}
    record |= {"network_forwards": result.stats.network_forwards, "seconds": result.stats.seconds}
    with written_whole(record_path) as part:
        part.write_text(json.dumps(record, indent=1) + "\n")
    print(out)  # noqa: T201
    if lost:
        raise InputError(
            f"guidance diverged for {lost} of {args.samples} samples: lower --scale, take more --steps, or adaptive:..."
        )
    return 0


def _task(args: argparse.Namespace, options: Options) -> tuple[Any, Any]:
    """The problem and the solver that the arguments ask for."""
    from invsolve import costs, solvers
    from invsolve.core.problem import Problem
    from invsolve.core.registry import load_attribute
    from invsolve.priors.conditional import ConditionalPrior
    from invsolve.priors.guidance.clocks import step_clock
    from invsolve.priors.guidance.combinations import classifier_free
    from invsolve.priors.guidance.named import parse_weight, published_weights
    from invsolve.restoration.loading import load_prior
    from invsolve.solvers.steps.scales import parse_scale

    prior = load_prior(options)
    if prior.shape is None:
        raise InputError(f"the prior {args.prior} has no size of its own: guide one that has, for example digits")
    if args.reward is not None:
        if args.weight is not None:
            raise InputError("--weight is of classes: a reward takes --scale")
        cost = costs.RewardCost(load_attribute(args.reward), args.temperature)
        rule = parse_scale(args.scale or "fixed:1")
        return Problem(prior, cost), solvers.Guidance(rule, n_steps=args.steps, eta=args.eta)
    if args.weight is not None or args.scale is None:
        if not isinstance(prior, ConditionalPrior) or prior.null is None:
            prior.given(label=args.label)  # an unconditional prior says so
            raise InputError("classifier-free guidance needs a prior trained without labels as well: use --scale")
        prior.given(label=args.label)
        weight = parse_weight(args.weight or "1")
        preset = published_weights().get((args.weight or "").removeprefix("c2fg:"))
        steps = preset is not None and preset.clock == "step"
        clock = step_clock(tuple(prior.schedule.grid(args.steps))) if steps else None
        labels = {"condition": {"label": args.label}, "null": {"label": prior.null}}
        guided = classifier_free(prior, weight, clock=clock, **labels)
        return Problem(guided), solvers.DDIM(n_steps=args.steps, eta=args.eta)
    if args.classifier is not None:
        classifier = load_attribute(args.classifier)
        logits, count = classifier, int(classifier(*_probe(prior)).shape[1])
    elif args.prior == "digits":
        from invsolve.priors.loading.digits import digits_classifier

        logits, count = digits_classifier().of_images, 10
    else:
        raise InputError(f"--scale steers by a classifier, and {args.prior} comes with none: give --classifier")
    cost = costs.ClassifierCost(logits, args.label, count, conditional=True)
    rule = parse_scale(args.scale)
    return Problem(prior, cost), solvers.Guidance(rule, at="noisy", n_steps=args.steps, eta=args.eta)


def _probe(prior: Any) -> tuple[Any, Any]:
    """One grey image of the prior's size, and a noise level."""
    import torch

    return torch.full((1, *prior.shape), 0.5), torch.full((1,), 0.1)


def _sheet(images: Any) -> Any:
    """Images [N, C, H, W] side by side, [H', W', C] uint8."""
    import torch

    n, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = torch.zeros(rows * columns, channels, height, width)
    sheet[:n] = images
    grid = sheet.view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    return (grid.reshape(rows * height, columns * width, channels) * 255).round().byte().numpy()


def _write(sheet: Any, out: Path) -> None:
    """Write the PNG whole, small images enlarged without smoothing."""
    from PIL import Image

    image = Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet)
    factor = max(1, 512 // max(image.size))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    with written_whole(out) as part:
        image.save(part, "PNG")
