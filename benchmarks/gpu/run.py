"""Measure a GPU: python -m benchmarks.gpu.run [--rehearse] [--minutes 9] [--out DIR].

The script writes one JSON file and one page of tables: the results of every solver compared with the CPU; networks of
the published sizes (random weights) at several batch sizes with each way of running them; steps of NDTM and DPS and
their share outside the network; seconds per image for published budgets, and the paper's. Parts that do not fit into
the time or the memory are left out and named. On a machine without a GPU, it runs only with --rehearse: on the CPU,
with small networks and without compilation. The numbers of a rehearsal have no meaning.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import markdown
from benchmarks.gpu.machinery import NETWORKS, TINY, Clock
from benchmarks.gpu.parts import agreement, budgets, calls, steps
from invsolve.core.files import written_whole

__all__ = ["measure"]

SHARES = {"agreement": 0.1, "calls": 0.5, "steps": 0.2, "budgets": 0.2}
"""Share of the time for each part; unused time passes to the next parts."""


def measure(device: torch.device, minutes: float, out: Path, *, rehearse: bool) -> dict[str, Any]:
    """Measure, and write gpu.json and gpu.md into `out` after every part."""
    configs = TINY if rehearse else NETWORKS
    batches, limit = ((1, 2), 0.01) if rehearse else ((1, 8, 32), 1.5)
    whole = Clock(60 * minutes)
    parts: dict[str, Callable[[Clock], list[dict[str, Any]]]] = {
        "agreement": lambda clock: agreement(device, clock),
        "calls": lambda clock: calls(configs, device, batches, clock, limit),
        "steps": lambda clock: steps(configs, device, batches[:2], clock, limit),
        "budgets": lambda clock: budgets(configs, device, (1,) if rehearse else (1, 16), clock, limit),
    }
    found: dict[str, Any] = {"device": _named(device), "torch": torch.__version__, "rehearsed": rehearse}
    left = 1.0
    for name, part in parts.items():
        share = SHARES[name] / left
        left -= SHARES[name]
        found[name] = part(Clock(share * whole.left))
        _write(found, out)
    found["seconds"] = 60 * minutes - whole.left
    _write(found, out)
    return found


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _write(found: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for path, text in (("gpu.json", json.dumps(found, indent=1)), ("gpu.md", _tables(found))):
        with written_whole(out / path) as part:
            part.write_text(text, encoding="utf-8")


def _tables(found: dict[str, Any]) -> str:
    """The rows of every part as a table, times in milliseconds."""
    lines = [f"{found['device']}, torch {found['torch']}" + (", rehearsed: no figures" * found["rehearsed"])]
    for name in SHARES:
        if name in found:
            head = list(dict.fromkeys(key for row in found[name] for key in row))
            cells = [[_cell(key, row.get(key, "")) for key in head] for row in found[name]]
            lines += [f"\n**{name}**\n", markdown(head, cells)]
    return "\n".join(lines)


def _cell(key: str, value: Any) -> str:
    if key in ("forward", "gradient", "step") and isinstance(value, float):
        return f"{1e3 * value:.2f} ms"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="small networks, on the CPU if there is no GPU")
    parser.add_argument("--minutes", type=float, default=9.0, help="time limit (default 9)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    args = parser.parse_args()
    if not torch.cuda.is_available() and not args.rehearse:
        sys.stderr.write("there is no GPU: give --rehearse to try the script on the CPU\n")
        return 2
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = measure(device, args.minutes, args.out, rehearse=args.rehearse)
    print(_tables(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
