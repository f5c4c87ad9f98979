"""Measure speed: python -m benchmarks.speed PART [...]; results go to benchmarks/speed/results.

overhead   what a step costs beyond the network, beside a bare loop, azula and deepinv
whole      whole restorations on `natural`, beside the same
ndtm       NDTM beside the published loop on the full-size FFHQ architecture with random weights
bf16       `natural` in float32 and bfloat16; bf16-quality: what it loses on held-out images
memory     peak memory of network calls and solvers, beside bare loops, azula and deepinv; `one-memory` is one of them
growth     time and memory against image size, samples, steps and tiles; `one` is a run of it
threads    one thread or more, alone and beside busy processes, as torch and as invsolve decides
against    restorations beside those of another tree, a worktree of an earlier commit
start      imports and commands in fresh processes
settings   PSNR against the number of steps of PnP-HQS, on tuning images
presets    the preset table against noise and against what is missing, beside a grid about it, on tuning images
quality    quality against network calls on held-out images: published budgets, accelerated variants, presets
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.speed import against, growth, memory, networks, overhead, presets, quality, settings, threads
from benchmarks.speed.contenders import SOLVERS, WHO


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("overhead")
    part.add_argument("--solvers", nargs="+", default=list(SOLVERS), choices=list(SOLVERS))
    part.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    part.add_argument("--rounds", type=int, default=11)
    part.add_argument("--who", nargs="+", default=list(WHO), choices=list(WHO), help="bare and invsolve always")
    part.add_argument("--dry", action="store_true", help="print only, write nothing")
    part.set_defaults(run=lambda a: overhead.run(a.solvers, a.batches, a.rounds, a.who, keep=not a.dry))
    part = parts.add_parser("whole")
    part.add_argument("--side", type=int, default=128)
    part.add_argument("--steps", type=int, default=10)
    part.add_argument("--rounds", type=int, default=5)
    part.set_defaults(run=lambda a: networks.whole(a.side, a.steps, a.rounds))
    part = parts.add_parser("ndtm")
    part.add_argument("--side", type=int, default=64)
    part.add_argument("--steps", type=int, default=1)
    part.add_argument("--rounds", type=int, default=3)
    part.set_defaults(run=lambda a: networks.ndtm(a.side, a.steps, a.rounds))
    part = parts.add_parser("bf16")
    part.add_argument("--sides", nargs="+", type=int, default=[128, 256])
    part.add_argument("--rounds", type=int, default=7)
    part.set_defaults(run=lambda a: networks.bf16(a.sides, a.rounds))
    part = parts.add_parser("bf16-quality")
    part.add_argument("--side", type=int, default=256)
    part.add_argument("--tasks", nargs="+", default=list(quality.TASKS), choices=list(quality.TASKS))
    part.set_defaults(run=lambda a: networks.bf16_quality(a.side, a.tasks))
    parts.add_parser("memory").set_defaults(run=lambda a: memory.run())
    part = parts.add_parser("one-memory")
    part.add_argument("case", choices=list(memory.CASES))
    part.set_defaults(run=lambda a: print(json.dumps(memory.one(a.case))))
    part = parts.add_parser("growth")
    part.add_argument("--sides", nargs="+", type=int, default=[64, 128, 256, 512, 1024, 2048])
    part.add_argument("--samples", nargs="+", type=int, default=[1, 2, 4, 8])
    part.add_argument("--tiles", nargs="+", type=int, default=[256, 384, 512])
    part.add_argument("--memory", type=float, default=6.0, help="GiB that a restoration may use")
    part.add_argument("--set", dest="settings", type=json.loads, default={}, help="settings of the solver as JSON")
    part.set_defaults(run=lambda a: growth.growth(a.sides, a.samples, a.tiles, a.settings, a.memory))
    part = parts.add_parser("threads")
    part.add_argument("--rounds", type=int, default=15)
    part.add_argument("--beside", nargs="+", type=int, default=[0, 4], help="so many busy processes")
    part.set_defaults(run=lambda a: threads.run(a.rounds, a.beside))
    part = parts.add_parser("against")
    part.add_argument("other", type=Path, metavar="TREE", help="git worktree of an earlier commit")
    part.add_argument("--cases", nargs="+", default=list(against.CASES), choices=list(against.CASES))
    part.add_argument("--rounds", type=int, default=3)
    part.set_defaults(run=lambda a: against.run(a.other, a.cases, a.rounds))
    part = parts.add_parser("one")
    part.add_argument("side", type=int)
    part.add_argument("options", type=json.loads)
    part.set_defaults(run=lambda a: print(json.dumps(growth.one(a.side, a.options))))
    part = parts.add_parser("start")
    part.add_argument("--rounds", type=int, default=5)
    part.set_defaults(run=lambda a: growth.start(a.rounds))
    part = parts.add_parser("quality")
    part.add_argument("--side", type=int, default=96)
    part.add_argument("--tasks", nargs="+", default=list(quality.TASKS), choices=list(quality.TASKS))
    part.add_argument("--images", type=int, default=6)
    part.add_argument("--methods", nargs="+", help="names of benchmarks/speed/quality.py (default all)")
    part.set_defaults(run=lambda a: quality.run(a.side, a.tasks, a.images, a.methods))
    part = parts.add_parser("settings")
    part.add_argument("--images", type=Path, required=True, help="folder of tuning images")
    part.add_argument("--tasks", nargs="+", default=list(quality.TASKS), choices=list(quality.TASKS))
    part.add_argument("--crops", type=int, default=5)
    part.add_argument("--size", type=int, default=64)
    part.set_defaults(run=lambda a: settings.run(a.images, a.tasks, a.crops, a.size))
    part = parts.add_parser("presets")
    part.add_argument("--images", type=Path, required=True, help="folder of tuning images")
    part.add_argument("--cases", nargs="+", default=list(presets.CASES), choices=list(presets.CASES))
    part.add_argument("--levels", nargs="+", type=float, default=list(presets.LEVELS), help="of the noise")
    part.add_argument("--crops", type=int, default=3)
    part.add_argument("--size", type=int, default=64)
    part.set_defaults(run=lambda a: presets.run(a.images, a.cases, a.levels, a.crops, a.size))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
