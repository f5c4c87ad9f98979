"""The command `invsolve doctor`: check a prior on this machine before restoring anything."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from invsolve.commands.options import add_options
from invsolve.core.checks import InputError
from invsolve.core.lazy import torch
from invsolve.restoration.options import Options

if TYPE_CHECKING:
    from invsolve.core.prior import Prior
    from invsolve.restoration.choice import Choice

__all__ = ["add_parser"]

SECTIONS = ("denoise", "superres2", "superres4", "inpaint", "deblur")


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the subcommand `doctor`; the default `run` of its parser takes the parsed arguments."""
    parser = subparsers.add_parser(
        "doctor",
        help="check a prior on this machine",
        description="Check a prior on this machine: device, precision, weights, the time of one call, memory, and for "
        "each task the settings and an estimate of the time.",
    )
    parser.add_argument("prior", nargs="?", default="natural", help="a prior, as for restore --prior (default natural)")
    add_options(parser, Options, ("label", "device", "precision"))
    parser.set_defaults(run=run_command)
    return parser


def run_command(args: argparse.Namespace) -> int:
    """Print the report; return 1 if something is missing."""
    told = {name: value for name, value in vars(args).items() if name in ("prior", "label", "device", "precision")}
    options = Options(**told)

    from invsolve.restoration.loading import device_of, load_prior

    device = device_of(options)
    lines = [f"device      {device}{_device(device)}, torch {torch.__version__}, {torch.get_num_threads()} threads"]
    weights, there = _weights(str(options.prior))
    lines += [f"weights     {weights}"] if weights else []
    if there:
        lines += _measured(options, load_prior(options))
    sys.stdout.write("\n".join([*lines, ""]))
    return 0 if there else 1


def _device(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    found = torch.cuda.get_device_properties(device)
    return f" ({found.name}, {found.total_memory / 2**30:.0f} GiB)"


def _weights(name: str) -> tuple[str, bool]:
    """Describe a published weight file; also return whether it is present (or no file is needed)."""
    from invsolve.priors.loading.cards import cards
    from invsolve.priors.loading.hub import cache_folder, sha256_of

    known = cards().get(name)
    if known is None:
        return "", True
    if not known.file:
        return "in the package", True
    path = cache_folder() / known.file
    if not path.is_file():
        size = f" ({known.bytes / 2**30:.2f} GiB)" if known.bytes else ""
        return f"not on this machine: `invsolve priors fetch {name}` downloads {known.url}{size}", False
    found = sha256_of(path)
    record = path.with_name(f"{path.name}.sha256")
    expected = known.sha256 or (record.read_text().split()[0] if record.is_file() else "")
    if expected and found != expected:
        raise InputError(f"{path} has SHA-256 {found}, expected {expected}: remove it and fetch it again")
    said = "as expected" if known.sha256 else "as first downloaded" if expected else "its publisher states no SHA-256"
    return f"{path}, {path.stat().st_size / 2**30:.2f} GiB, SHA-256 {found[:16]}... {said}", True


def _measured(options: Options, prior: Prior) -> list[str]:
    from invsolve.core.checkpoint import peak_memory
    from invsolve.priors.traits import traits_of
    from invsolve.restoration.pace import call_seconds, network_calls, timed_shape

    traits = traits_of(prior)
    shape = timed_shape(prior)
    kind = f"{traits.scope}, settings of {traits.family}{'' if traits.own else ' (the nearest)'}"
    speed = getattr(prior, "speed", None)
    lines = [
        f"prior       {prior!r}",
        f"kind        {kind}; {'classes; ' if traits.labelled else ''}{'latents; ' if traits.latent else ''}"
        f"states in {prior.dtype}, products in {getattr(speed, 'dtype', None) or prior.dtype}",
    ]
    plain, guided = call_seconds(prior)
    lines.append(f"one call    {plain:.2f} s, with its gradient {guided:.2f} s")
    lines.append(f"estimates for one state of {shape[1]} x {shape[2]}, from these calls:")
    for section in SECTIONS:
        choice = _choice(section, traits)
        if choice is None:
            continue
        forwards, backwards = network_calls(choice.solver, prior.schedule)
        seconds = (forwards - backwards) * plain + backwards * guided
        calls = f"{forwards:.0f} calls" + (f", {backwards:.0f} of them differentiated" if backwards else "")
        lines.append(f"  {section:<11} about {_time(seconds)} ({calls}): {choice.reason}")
    memory = peak_memory(prior.device) / 2**30
    lines.append(f"memory      about {memory:.1f} GiB at most so far, weights and one differentiated call included")
    return lines


def _choice(section: str, traits: Any) -> Choice | None:
    from invsolve.restoration.choice import chosen

    try:
        return chosen(section, traits)
    except InputError:  # no settings are known for this prior
        return None


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
