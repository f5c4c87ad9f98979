"""The command `invsolve restore`."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from invsolve.commands.options import add_options, add_set, add_task_options, read_settings
from invsolve.commands.terminal import one_line
from invsolve.core.checks import InputError
from invsolve.core.driver import Progress
from invsolve.restoration.job import prepare
from invsolve.restoration.loading import load_prior
from invsolve.restoration.options import Options
from invsolve.restoration.outputs import check_targets, output_paths
from invsolve.restoration.run import Restoration, run
from invsolve.tasks import TASKS

__all__ = ["add_parser"]

logger = logging.getLogger(__name__)

EXAMPLES = """examples:
  invsolve restore small.png --task superres --factor 4
  invsolve restore noisy.jpg --task denoise
  invsolve restore old.png --task inpaint --mask scratches.png --samples 4 -o out/
  invsolve restore shaken.jpg --task blind-deblur --kernel-size 33
  invsolve restore clean.png --task deblur --blur-sigma 2 --noise 0.01 --simulate
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add `restore` to a command line; the parser's default `run` takes the parsed arguments."""
    parser = subparsers.add_parser(
        "restore",
        help="restore degraded photographs",
        description="Restore degraded photographs: remove noise, enlarge, fill in what is missing, sharpen.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", nargs="+", type=Path, metavar="IMAGE", help="degraded image: PNG, JPEG, WebP or TIFF")
    add("--task", required=True, help=f"what is wrong with it: {', '.join(TASKS)}, or module:attribute")
    add_options(parser, Options, ("noise", "samples", "seed"))
    add("-o", "--out", type=Path, help="output file or folder (default: beside the image)")
    add("--overwrite", action="store_true", help="replace outputs that exist")
    add_options(parser, Options, ("simulate", "quality", "time_limit", "solver"))
    add_set(parser, "a setting of the solver")
    add_options(parser, Options, ("preset", "presets", "prior", "label", "prompt", "negative_prompt"))
    help = "of the prior: vae, size, null, dtype, compile, ... (docs/priors.md)"
    add("--prior-option", action="append", default=[], dest="prior_options", metavar="NAME=VALUE", help=help)
    add_options(parser, Options, ("device", "precision", "memory", "tile", "checkpoint"))
    add_task_options(parser, lambda task: task.option_type())
    parser.set_defaults(run=run_command)
    return parser


def run_command(args: argparse.Namespace) -> int:
    """Restore every image; all of them are checked before the first is begun."""
    told = {name: value for name, value in vars(args).items() if name not in _OWN}
    options = Options.of(
        **told,
        settings=read_settings(args.settings, "n_steps=20"),
        prior_options=read_settings(args.prior_options, "size=256", flag="--prior-option"),
    )
    _check_checkpoint(options, args.images)
    paths = output_paths(args.images, args.out)
    for path in paths:
        check_targets(path, options.samples, overwrite=args.overwrite, kernel=options.kind.estimates_kernel)
    jobs = [prepare(image, options) for image in args.images[:1]]
    for image in args.images[1:]:
        prepare(image, options)  # only to find out now what would stop the run later
    prior = load_prior(options)
    for i, (image, path) in enumerate(zip(args.images, paths, strict=True)):
        job = jobs[0] if i == 0 else prepare(image, options)
        with _progress(image.name) as callback:
            restoration = run(job, prior, callbacks=[callback])
        restoration.record["command"] = shlex.join(["invsolve", *args.words])
        _report(restoration, restoration.save(path, overwrite=args.overwrite)[0])
    return 0


def _check_checkpoint(options: Options, images: list[Path]) -> None:
    if options.checkpoint is None:
        return
    if len(images) > 1:
        raise InputError("a checkpoint belongs to one image: restore them one by one")
    folder = Path(options.checkpoint).parent
    if not folder.is_dir():
        raise InputError(f"the folder {folder} does not exist: make it first")


@contextmanager
def _progress(name: str) -> Iterator[Callable[[Progress], None]]:
    """A progress bar with the time left on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Bar(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, disable=not console.is_terminal)
    with bar:
        task = bar.add_task(one_line(name), total=None)

        def callback(progress: Progress) -> None:
            done = progress.chunk * progress.n_steps + progress.step
            bar.update(task, completed=done, total=progress.n_chunks * progress.n_steps)

        yield callback


def _report(restoration: Restoration, path: Path) -> None:
    """The path of the result, then what was done and how well it went."""
    record = restoration.record
    noise, stats = record["noise"], record["stats"]
    lines = [
        str(path),
        f"  {record['estimate']} by {record['solver']['name']}, noise {noise['sigma']:.4f} ({noise['source']}), "
        f"{round(stats['network_forwards'])} network calls a sample, {stats['seconds']:.1f} s",
        f"  {record['solver']['chosen']['reason']}",
    ]
    if noise["source"] == "estimated":
        lines.append(f"  found {noise['found']}")
    for name, score in record.get("scores", {}).items():
        ssim = "" if score["ssim"] is None else f", SSIM {score['ssim']:.4f}"
        lines.append(f"  {name}: PSNR {score['psnr']:.2f} dB{ssim}")
    sys.stdout.write("\n".join([*lines, ""]))
    for sentence in sorted({s for s in record["status"] if s != "ok"}):
        logger.warning("%s: %s", path, sentence)


_OWN = ("images", "out", "overwrite", "settings", "prior_options", "run", "command", "words")
"""Arguments that are none of `Options`."""
