"""The command `invsolve restore`."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.commands.options import add_options, add_set, add_task_options, check_least, read_settings
from invsolve.commands.outcomes import counted, summary, tell, warn
from invsolve.commands.progress import Shown
from invsolve.core.checks import InputError
from invsolve.core.lazy import uncollected_imports
from invsolve.execution.threads import each
from invsolve.io import READABLE, SUFFIXES
from invsolve.restoration.options import Options
from invsolve.restoration.sources import STDIN, TEMPLATE, Entry, entries, find, output_path, without_outputs
from invsolve.tasks import TASKS

if TYPE_CHECKING:
    from invsolve.execution.executor import Executor
    from invsolve.restoration.items import Outcome

__all__ = ["add_parser"]

EXAMPLES = """examples:
  invsolve restore photo.jpg
  invsolve restore small.png --task superres --factor 4
  invsolve restore noisy.jpg --task denoise
  invsolve restore photo.dng --format jpg
  invsolve restore old.png --task inpaint --mask scratches.png --samples 4 -o out/
  invsolve restore shaken.jpg --task blind-deblur --kernel-size 33
  invsolve restore holidays/ --task denoise --recursive -o restored/ --skip-existing
  invsolve restore blocky.jpg --task jpeg
  invsolve restore clean.png --task deblur --blur-sigma 2 --noise 0.01 --simulate
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the subcommand `restore`; the default `run` of its parser takes the parsed arguments."""
    parser = subparsers.add_parser(
        "restore",
        help="restore degraded photographs",
        description="Restore degraded photographs: remove noise, enlarge, fill in missing parts, sharpen.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image, folder, pattern, @LIST, address (s3://, https://) or - (stdin)",
    )
    add(
        "--task",
        default="auto",
        help=f"what is wrong with the image: {', '.join(TASKS)}, or module:attribute (default auto: inspects it)",
    )
    add_options(parser, Options, ("noise", "samples", "calibration", "seed"))
    _add_outputs(parser)
    add_options(parser, Options, ("simulate", "quality", "time_limit", "solver"))
    add_set(parser, "a setting of the solver")
    add_options(parser, Options, ("preset", "presets", "prior", "label", "prompt", "negative_prompt"))
    help = "option of the prior: vae, size, null, dtype, compile, ... (docs/priors.md)"
    add("--prior-option", action="append", default=[], dest="prior_options", metavar="NAME=VALUE", help=help)
    add_options(parser, Options, ("device", "precision", "memory", "tile", "checkpoint"))
    _add_many(parser)
    add_task_options(parser, lambda task: task.option_type())
    parser.set_defaults(run=run_command)
    return parser


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("output").add_argument
    add("-o", "--out", help="output file or folder, or - for stdout (default: beside the image)")
    add(
        "--template",
        default=TEMPLATE,
        help=f"names in the output folder, with {{stem}}, {{ext}}, {{name}} (default {TEMPLATE})",
    )
    add("--format", dest="ending", metavar="EXT", help="write .png, .jpg, .tif, ... (default: the image's format)")
    add(
        "--output-quality",
        type=int,
        metavar="N",
        help="quality of JPEG, WebP and AVIF files, 1 to 100 (default: JPEG 95, WebP lossless, AVIF 90)",
    )
    add("--overwrite", action="store_true", help="replace outputs that exist")
    add("--skip-existing", action="store_true", help="skip images that are already restored")
    add("--no-comparison", dest="comparison", action="store_false", help="write no comparison figure")
    add("--no-record", dest="record", action="store_false", help="write no JSON record")
    add("--json", action="store_true", help="one line of JSON for each image on stdout")
    add("-q", "--quiet", action="store_true", help="no progress and no report")


def _add_many(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("many images").add_argument
    add("--recursive", action="store_true", help="also search subfolders")
    add("--workers", type=int, metavar="N", help="number of processes that restore images in parallel")
    add("--devices", type=int, metavar="N", help="number of GPUs, one for each worker")
    add("--shard", metavar="I/N", help="restore only part I of N, for job arrays")
    add("--ray", metavar="ADDRESS", help="restore on a Ray cluster: auto, HOST:PORT, or local")


def run_command(args: argparse.Namespace) -> int:
    """Restore every image; return 0 if all were restored or skipped, 1 if some failed, 2 if none could start."""
    told = {name: value for name, value in vars(args).items() if name not in _OWN}
    options = Options.of(
        **told,
        settings=read_settings(args.settings, "n_steps=20"),
        prior_options=read_settings(args.prior_options, "size=256", flag="--prior-option"),
    )
    found = find(args.images, recursive=args.recursive)
    if args.out == STDIN:
        _check(options, 1, args)
        return _to_stdout(entries(found, _shard(args.shard)), options, args)
    if len(found.entries) > 1:
        found = without_outputs(found, *(_paths(entries(found), args, out)[0] for out in (args.out, None)))
    chosen = entries(found, _shard(args.shard))
    _check(options, len(chosen), args)
    apart = args.ray is not None or _processes(args) > 1
    if apart and len(found.entries) > 1 and any(entry.source == STDIN for entry in chosen):
        raise InputError("only this process can read standard input: omit --workers, --devices and --ray")
    paths, folders = _paths(chosen, args, args.out)
    single = len(chosen) == 1 and len(found.entries) == 1 and not args.skip_existing

    with uncollected_imports():
        from invsolve.restoration.batch import restore_batch
        from invsolve.restoration.items import Batch, Item, check_items

    batch = Batch(
        options, args.overwrite, args.skip_existing, args.comparison, args.record, args.output_quality,
        shlex.join(["invsolve", *args.words]), _threads(args), failures=not single,
    )  # fmt: skip
    items = [Item(entry, path, batch, deep=folders) for entry, path in zip(chosen, paths, strict=True)]
    check_items(items)
    executor = None if single else _executor(args)
    ended: list[Outcome] = []
    began = time.perf_counter()
    with Shown(len(items), quiet=args.quiet or args.json) as shown:
        for outcome in restore_batch(items, executor, lambda item: [shown.step(item.entry.name)]):
            if single and outcome.status == "failed":
                raise InputError(outcome.error)
            shown.done(outcome.status)
            tell(outcome, args)
            ended.append(replace(outcome, restoration=None, record=counted(outcome.record or {})))
    if not single:
        summary(ended, time.perf_counter() - began, found, args)
    failed = any(outcome.status == "failed" for outcome in ended)
    return 0 if not failed else 1 if any(outcome.started for outcome in ended) else 2


def _paths(chosen: Sequence[Entry], args: argparse.Namespace, place: str | None) -> tuple[list[Path], bool]:
    """Return the output paths, in a folder or beside the images, and whether sub-folders are created in a folder."""
    ending = _ending(args)
    out = None if place is None else Path(place)
    if out is not None and out.suffix.lower() in set(READABLE) - set(SUFFIXES) and not out.is_dir():
        raise InputError(f"{out.suffix} files cannot be written: give one of {', '.join(SUFFIXES)}, or a folder")
    if out is not None and out.suffix.lower() in SUFFIXES and not out.is_dir():
        if len(chosen) != 1:
            raise InputError(f"{out} is one file, but there are {len(chosen)} images: give a folder with -o")
        paths = [out]
    else:
        if out is not None and out.exists() and not out.is_dir():
            raise InputError(
                f"{out} is neither a folder nor a file with the ending of an image ({', '.join(SUFFIXES)})"
            )
        if out is not None and not out.exists() and not out.absolute().parent.is_dir():
            raise InputError(f"the folder {out.parent} does not exist: make it first")
        paths = [output_path(entry, out, args.template, ending) for entry in chosen]
    return paths, out is not None and out not in paths


def _ending(args: argparse.Namespace) -> str | None:
    """Return the file ending of --format."""
    ending = None if args.ending is None else f".{args.ending.lower().lstrip('.')}"
    if ending is not None and ending not in SUFFIXES:
        raise InputError(f"--format must be one of {', '.join(sorted(SUFFIXES))}, got {args.ending}")
    return ending


def _check(options: Options, count: int, args: argparse.Namespace) -> None:
    if args.output_quality is not None and not 1 <= args.output_quality <= 100:
        raise InputError(f"--output-quality must be from 1 to 100, got {args.output_quality}")
    check_least(args, workers=1, devices=1)
    if options.checkpoint is not None:
        if count > 1:
            raise InputError("a checkpoint belongs to one image: restore them one by one")
        folder = Path(options.checkpoint).parent
        if not folder.is_dir():
            raise InputError(f"the folder {folder} does not exist: make it first")


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    i, n = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= i <= n:
        raise InputError(f"--shard must be I/N with I from 1 to N, for example 2/8, got {text!r}")
    return i, n


def _processes(args: argparse.Namespace) -> int:
    """Return how many processes restore images in parallel on this machine."""
    return args.workers or args.devices or 1


def _executor(args: argparse.Namespace) -> Executor | None:
    """Return the executor that restores the images; None for this process."""
    from invsolve.restoration.batch import restore_item

    count = _processes(args)
    if args.ray is not None:
        from invsolve.execution.ray import RayExecutor

        return RayExecutor(restore_item, args.ray, args.workers or 0, _threads(args) or 1, 1.0 if args.devices else 0.0)
    if count == 1:
        return None
    from invsolve.execution.workers import Workers

    return Workers(restore_item, count, _threads(args) or 1, devices=args.devices)


def _threads(args: argparse.Namespace) -> int | None:
    """Return the threads of each worker, which share the CPUs of this machine; None without workers."""
    count = _processes(args)
    if count == 1:
        return None if args.ray is None else 1
    return each(count)


def _to_stdout(chosen: Sequence[Entry], options: Options, args: argparse.Namespace) -> int:
    if len(chosen) != 1:
        raise InputError(f"standard output takes one image, got {len(chosen)}: name a folder with -o")
    from invsolve.restoration.fetch import local
    from invsolve.restoration.loading import kept_prior
    from invsolve.restoration.outputs import encoded
    from invsolve.restoration.pages import jobs_of, run_pages

    ending = _ending(args) or chosen[0].ending.lower()
    ending = ending if ending in SUFFIXES else ".png"
    with local(chosen[0]) as path:
        done = run_pages(jobs_of(path, options, ending), kept_prior(options))
    warn(chosen[0].source, done.record)
    content = encoded(done, f"a{ending}", args.output_quality)
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    return 0


_OWN = (
    "images", "out", "overwrite", "settings", "prior_options", "run", "command", "words", "template", "ending",
    "output_quality", "skip_existing", "comparison", "record", "json", "quiet", "recursive", "workers", "devices",
    "shard", "ray",
)  # fmt: skip
"""Arguments that do not belong to `Options`."""
