"""The command `invsolve priors`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invsolve.commands.options import add_set, read_settings

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add `priors list|show|check|fetch|convert|push` to a command line."""
    parser = subparsers.add_parser("priors", help="list, show, check, fetch, convert and push priors")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    actions.add_parser("list", help="list the priors known by name, and which are on this machine")
    show = actions.add_parser("show", help="show the card of a prior, or the contents of a file or folder")
    _add_prior(show)
    check = actions.add_parser("check", help="test that a prior is loaded correctly")
    _add_prior(check)
    check.add_argument("--images", type=Path, nargs="+", metavar="FILE", help="images like its training images")
    check.add_argument("--label", type=int, help="class of the images, for a class-conditional prior (default 0)")
    check.add_argument("--no-half", action="store_true", help="leave out bfloat16 and float16")
    fetch = actions.add_parser("fetch", help="download the weights of a prior known by name, and check them")
    fetch.add_argument("prior", metavar="NAME")
    fetch.add_argument("--mirror", help="a folder or URL prefix that has the file (default INVSOLVE_MIRROR)")
    convert = actions.add_parser("convert", help="extract an EDM network from its pickle without running the pickle")
    convert.add_argument("source", type=Path, metavar="PICKLE")
    convert.add_argument("target", type=Path, metavar="FILE", help="the .safetensors file to write")
    push = actions.add_parser("push", help="upload a prior to the Hugging Face hub, with a card")
    push.add_argument("source", type=Path, metavar="FILE", help="weights that --prior takes")
    push.add_argument("name", metavar="ORGANISATION/NAME", help="the repository; created if it does not exist")
    push.add_argument("--summary", required=True, help="one sentence: which images, for what purpose")
    push.add_argument("--data", required=True, help="what it was trained on, with its terms")
    push.add_argument(
        "--licence", required=True, help="licence of the weights, as the hub spells it: apache-2.0, cc-by-4.0, ..."
    )
    push.add_argument("--private", action="store_true", help="make a new repository private")
    push.add_argument(
        "--to", type=Path, metavar="FOLDER", help="write the repository to this folder, and upload nothing"
    )
    parser.set_defaults(run=run)
    return parser


def _add_prior(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prior", metavar="PRIOR", help="a name, a file, a folder or hf:organisation/name")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default cpu)")
    add_set(parser, "option of its loader, for example heads=4")


def run(args: argparse.Namespace) -> int:
    """Run the chosen action; return 1 if a prior failed its check."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "show": _show,
        "check": _check,
        "fetch": _fetch,
        "convert": _convert,
        "push": _push,
    }
    return actions[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from invsolve.priors import PRIORS
    from invsolve.priors.loading.cards import cards
    from invsolve.priors.loading.hub import cache_folder

    folder = cache_folder()
    for name in PRIORS:
        entry = cards().get(name)
        place = "in the package" if entry is None or not entry.file else "to be fetched"
        if entry is not None and entry.file and (folder / entry.file).is_file():
            place = "in the cache"
        _say(f"{name:<18} {place:<15} {'' if entry is None else entry.summary}")
    _say(f"cache: {folder}")
    return 0


def _show(args: argparse.Namespace) -> int:
    from invsolve.priors.loading.cards import cards

    if args.prior in cards() and not args.settings:
        _say(str(cards()[args.prior]))
        return 0
    from invsolve.priors.conditional import ConditionalPrior
    from invsolve.testing.readings import network_of

    prior = _load(args)
    size = "any" if prior.shape is None else " x ".join(map(str, prior.shape))
    _say(f"{prior!r}")
    _say(f"  sizes        {size}{' (of the latents)' if prior.latent else ''}")
    _say(f"  value_range  {prior.value_range}")
    _say(f"  schedule     {prior.schedule!r}")
    network = network_of(prior)
    if network is not None:
        _say(f"  weights      {sum(p.numel() for p in network.module.parameters()) / 1e6:.3g} million")
    if isinstance(network, ConditionalPrior):
        none = "one must be given" if network.null is None else f"{network.null} means no class"
        _say(f"  labels       0 to {network.n_classes - 1}; {none}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from invsolve.testing import check_prior

    prior = _load(args)
    report = check_prior(prior, _images(args.images, prior), label=args.label, half=not args.no_half)
    _say(str(report))
    return 0 if report.passed else 1


def _fetch(args: argparse.Namespace) -> int:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from invsolve.priors.loading.cards import card
    from invsolve.priors.loading.hub import fetch

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(args.prior, total=None)
        path = fetch(
            card(args.prior),
            mirror=args.mirror,
            progress=lambda done, total: bar.update(task, completed=done, total=total or None),
        )
    _say(str(path))
    return 0


def _convert(args: argparse.Namespace) -> int:
    from invsolve.priors.loading.convert import convert

    config = convert(args.source, args.target)
    inner = ", ".join(f"{name}={value}" for name, value in config["inner"].items())
    _say(f"{args.target}: {config['class']}({inner})")
    return 0


def _push(args: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    from invsolve.priors.loading.sharing import Description, push, write_repository

    description = Description(args.summary, args.data, args.licence)
    if args.to is not None:
        for path in write_repository(args.source, args.to, args.name, description):
            _say(str(path))
        return 0
    with TemporaryDirectory() as folder:
        write_repository(args.source, Path(folder), args.name, description)
        _say(push(Path(folder), args.name, private=args.private))
    return 0


def _load(args: argparse.Namespace) -> Any:
    from invsolve import priors

    return priors.load(args.prior, device=args.device, **read_settings(args.settings, "heads=4"))


def _images(paths: list[Path] | None, prior: Any) -> Any:
    """Read the images as one batch: their central squares, resized to the size of the prior."""
    if not paths:
        return None
    import torch
    from torch.nn import functional as F

    from invsolve.io import read_image
    from invsolve.testing.images import image_shape

    channels, *size = image_shape(prior)
    batch = []
    for path in paths:
        x = read_image(path).pixels
        side = min(x.shape[1:])
        top, left = (x.shape[1] - side) // 2, (x.shape[2] - side) // 2
        x = F.interpolate(x[None, :, top : top + side, left : left + side], size=size, mode="bilinear", antialias=True)
        batch.append(x.mean(1, keepdim=True) if channels == 1 else x.expand(-1, 3, -1, -1))
    return torch.cat(batch).clamp(0, 1)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
