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

from invsolve.core.checks import InputError
from invsolve.core.driver import Progress
from invsolve.core.settings import read_setting
from invsolve.restoration.job import Options, prepare
from invsolve.restoration.outputs import check_targets, output_paths
from invsolve.restoration.run import Restoration, load_prior, run
from invsolve.tasks.base import BlindDeblur

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
    add("--task", required=True, help="what is wrong with it: denoise, superres, inpaint, deblur or blind-deblur")
    add("--factor", type=int, default=4, help="superres: how many times larger (default 4)")
    add("--mask", type=Path, metavar="FILE", help="inpaint: white is missing; by default what is transparent")
    add("--kernel", type=Path, metavar="FILE", help="deblur: what a point became: an image, .npy, .txt or .csv")
    add("--blur-sigma", type=float, metavar="PIXELS", help="deblur: or the standard deviation of a Gaussian blur")
    add("--kernel-size", type=int, metavar="PIXELS", help="blind-deblur: side of the unknown blur, odd (default 33)")
    add(
        "--noise", type=_noise, default="auto", help="standard deviation, 1 is black to white (default auto: estimated)"
    )
    add("--samples", type=int, metavar="N", help="draw N posterior samples; write them, their mean and deviation")
    add("--seed", type=int, default=0, help="of everything random (default 0)")
    add("-o", "--out", type=Path, help="output file or folder (default: beside the image)")
    add("--overwrite", action="store_true", help="replace outputs that exist")
    add("--simulate", action="store_true", help="IMAGE is clean: degrade it first, and report PSNR and SSIM")
    add("--quality", default="balanced", help="fast, balanced or best (default balanced)")
    add("--time-limit", type=float, metavar="SECONDS", help="choose the best quality that is done in this time")
    add("--solver", help="method (default: the best for the task)")
    add("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE", help="a setting of the solver")
    add("--prior", default="natural", help="prior (default natural)")
    add("--device", default="auto", help="cpu, cuda, ... (default auto)")
    add("--precision", default="auto", help="of the network: auto, float32 or bfloat16 (default auto)")
    add("--memory", type=float, metavar="GIB", help="memory that may be used (default: half of the machine's)")
    add("--tile", type=int, metavar="PIXELS", help="side of the network's tiles (default: chosen from --memory)")
    add("--checkpoint", type=Path, metavar="FILE", help="save the run's state there, and go on from it if it exists")
    parser.set_defaults(run=run_command)
    return parser


def _noise(text: str) -> float | str:
    return text if text == "auto" else float(text)


def run_command(args: argparse.Namespace) -> int:
    """Restore every image; all of them are checked before the first is begun."""
    settings = dict(read_setting(text, "n_steps=20") for text in args.settings)
    options = Options(**{name: getattr(args, name) for name in _SHARED}, settings=settings)
    _check_checkpoint(options, args.images)
    paths = output_paths(args.images, args.out)
    for path in paths:
        check_targets(path, options.samples, overwrite=args.overwrite, kernel=options.task == BlindDeblur.name)
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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Bar(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, disable=not console.is_terminal)
    with bar:
        task = bar.add_task(name, total=None)

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
    ]
    for name, score in record.get("scores", {}).items():
        ssim = "" if score["ssim"] is None else f", SSIM {score['ssim']:.4f}"
        lines.append(f"  {name}: PSNR {score['psnr']:.2f} dB{ssim}")
    sys.stdout.write("\n".join([*lines, ""]))
    for sentence in sorted({s for s in record["status"] if s != "ok"}):
        logger.warning("%s: %s", path, sentence)


_SHARED = (
    "task", "factor", "mask", "kernel", "blur_sigma", "kernel_size", "noise", "prior", "solver", "samples", "seed",
    "device", "simulate", "memory", "tile", "checkpoint", "quality", "time_limit", "precision",
)  # fmt: skip
