"""Measure speed: python -m benchmarks.speed PART [...]; results go to benchmarks/speed/results.

against    restorations by this tree and by another one, a worktree of an earlier commit
threads    one thread, torch's default and invsolve's choice, on an idle machine and with busy processes
overhead   cost of a step beyond the network, in invsolve, a bare loop, azula and deepinv
start      imports and commands in fresh processes
bf16       `natural` in float32 and bfloat16; bf16-quality: the loss of quality, also for `natural-deep`
fused      `natural` with fused convolutions and packed weights, and with separate operations
whole      whole restorations on `natural`, in invsolve, a bare loop, azula and deepinv
ndtm       NDTM and the published loop on the full-size FFHQ architecture with random weights
growth     time and memory against image size, samples, steps and tiles; `one` is a single run
memory     peak memory of network calls and solvers, and of bare loops, azula and deepinv; `one-memory` is a single case
presets    the preset table against noise and missing pixels, compared with a grid around it, on tuning images
quality    quality against network calls on held-out images: published budgets, accelerated variants, presets
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.speed import against, growth, memory, networks, overhead, presets, quality, threads
from benchmarks.speed.contenders import SOLVERS, WHO


def _some(kind: type, default: Iterable[Any], **more: Any) -> dict[str, Any]:
    """An option with one or more values."""
    return {"type": kind, "nargs": "+", "default": list(default), **more}


def _of(names: Iterable[str], **more: Any) -> dict[str, Any]:
    """An option with some of the names; all by default."""
    return _some(str, names, choices=list(names), **more)


def _one(kind: Any, default: Any, **more: Any) -> dict[str, Any]:
    return {"type": kind, "default": default, **more}


IMAGES = {"type": Path, "required": True, "help": "folder of tuning images"}

PARTS: dict[str, tuple[Callable[..., object], dict[str, dict[str, Any]]]] = {
    "against": (
        against.run,
        {
            "other": {"type": Path, "metavar": "TREE", "help": "git worktree of an earlier commit"},
            "--cases": _of(against.CASES),
            "--rounds": _one(int, 3),
        },
    ),
    "threads": (
        threads.run,
        {"--rounds": _one(int, 15), "--beside": _some(int, [0, 4], help="numbers of busy processes")},
    ),
    "overhead": (
        overhead.run,
        {
            "--solvers": _of(SOLVERS),
            "--batches": _some(int, [1, 8]),
            "--rounds": _one(int, 11),
            "--who": _of(WHO, help="bare and invsolve always run"),
            "--dry": {"action": "store_true", "help": "print only, write nothing"},
        },
    ),
    "start": (growth.start, {"--rounds": _one(int, 5)}),
    "bf16": (networks.bf16, {"--sides": _some(int, [128, 256]), "--rounds": _one(int, 7)}),
    "bf16-quality": (networks.bf16_quality, {"--side": _one(int, 256), "--tasks": _of(quality.TASKS)}),
    "fused": (networks.fused, {"--sides": _some(int, [32, 64, 128, 256, 512]), "--rounds": _one(int, 9)}),
    "whole": (networks.whole, {"--side": _one(int, 128), "--steps": _one(int, 10), "--rounds": _one(int, 5)}),
    "ndtm": (networks.ndtm, {"--side": _one(int, 64), "--steps": _one(int, 1), "--rounds": _one(int, 3)}),
    "growth": (
        growth.growth,
        {
            "--sides": _some(int, [64, 128, 256, 512, 1024, 2048]),
            "--samples": _some(int, [1, 2, 4, 8]),
            "--tiles": _some(int, [256, 384, 512]),
            "--memory": _one(float, 6.0, help="GiB that a restoration may use"),
            "--settings": _one(json.loads, {}, help="solver settings as JSON"),
        },
    ),
    "one": (growth.one, {"side": {"type": int}, "options": {"type": json.loads}}),
    "memory": (memory.run, {}),
    "one-memory": (memory.one, {"name": {"choices": list(memory.CASES)}}),
    "presets": (
        presets.run,
        {
            "--images": IMAGES,
            "--cases": _of(presets.CASES),
            "--levels": _some(float, presets.LEVELS, help="noise levels"),
            "--crops": _one(int, 3),
            "--size": _one(int, 64),
        },
    ),
    "quality": (
        quality.run,
        {
            "--side": _one(int, 96),
            "--tasks": _of(quality.TASKS),
            "--images": _one(int, 6),
            "--methods": _some(str, [], help="names of benchmarks/speed/quality.py (default all)"),
        },
    ),
}
"""The function that measures each part, and the options that become its arguments."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="part", required=True)
    for name, (_, options) in PARTS.items():
        command = commands.add_parser(name)
        for option, how in options.items():
            command.add_argument(option, **how)
    arguments = vars(parser.parse_args())
    part = arguments.pop("part")
    answer = PARTS[part][0](**arguments)
    if part in ("one", "one-memory"):
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
