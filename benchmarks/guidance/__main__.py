"""python -m benchmarks.guidance [mixture | images | weights | mixing | reliability | inverse]: some, or all."""

from __future__ import annotations

import argparse
import importlib
import time

EXPERIMENTS = ("mixture", "images", "weights", "mixing", "reliability", "inverse")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guidance", description="Guidance experiments.")
    parser.add_argument("names", nargs="*", choices=[[], *EXPERIMENTS], metavar="NAME", help=", ".join(EXPERIMENTS))
    for name in parser.parse_args().names or EXPERIMENTS:
        began = time.perf_counter()
        importlib.import_module(f"benchmarks.guidance.{name}").main()
        print(f"{name}: {time.perf_counter() - began:.0f} s")
