"""The default of `invsolve restore` and classical methods on held-out photographs: the table of the README.

    python -m benchmarks.peers [TASK ...] [--images chelsea ...] [--own]

Images are those of benchmarks/photographs.py: 256 x 256 crops of scikit-image's and scikit-learn's photographs, which
were not used to train the prior or tune a setting. Every method gets the same measurement (seed 0), noise level, mask
and blur kernel. The parameter of a classical method is the best of several values *on these very images*, by mean PSNR.
Seconds are the processor time of one image on one thread. The rows of a task replace those of its last run in
`results/peers.json`; `results/peers.md` is made from all rows. With --own the classical methods, which changes of the
library do not affect, keep their rows. invsolve restores with both of its priors for photographs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import invsolve as iv
from benchmarks.common import markdown
from benchmarks.photographs import held_out
from invsolve.bench.peers.classical import METHODS, Array, Measured
from invsolve.operators import gaussian_kernel
from invsolve.restoration.scores import score

RESULTS = Path(__file__).parent / "results"
TASKS: dict[str, dict[str, Any]] = {
    "denoise 0.1": {"task": "denoise", "noise": 0.1},
    "superres x4": {"task": "superres", "factor": 4, "noise": 0.01},
    "inpaint 50%": {"task": "inpaint", "noise": 0.01},
    "deblur std 2": {"task": "deblur", "blur_sigma": 2.0, "noise": 0.01},
    "jpeg q20": {"task": "jpeg", "compression": 20},
}
Row = dict[str, Any]

OWN = {"invsolve restore": "natural", "invsolve restore --prior natural-deep": "natural-deep"}


def options_for(task: str, image: torch.Tensor) -> dict[str, Any]:
    """The keyword arguments of `iv.restore`, including the mask for inpainting."""
    options = dict(TASKS[task])
    if options["task"] == "inpaint":
        lost = torch.rand(image.shape[1:], generator=torch.Generator().manual_seed(0)) < 0.5
        options["mask"] = lost.float()
    return options


def measured(options: dict[str, Any], done: Any) -> Measured:
    """The input of the classical methods: the degraded image of a simulation."""
    shown = done.degraded.permute(1, 2, 0).double().numpy()
    sigma = options.get("noise", 0.0)
    if options["task"] == "superres":
        factor = options["factor"]
        return Measured(shown[::factor, ::factor], sigma, factor=factor)
    if options["task"] == "inpaint":
        return Measured(shown, sigma, missing=options["mask"].bool().numpy())
    if options["task"] == "deblur":
        return Measured(shown, sigma, kernel=gaussian_kernel(options["blur_sigma"]).numpy())
    return Measured(shown, sigma)


def scored(image: Array, truth: torch.Tensor) -> dict[str, Any]:
    """PSNR and SSIM."""
    return score(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float(), truth)


def timed(make: Callable[[], Any]) -> tuple[Any, float]:
    """A result and its processor time in seconds."""
    began = time.process_time()
    return make(), time.process_time() - began


def rows_of(task: str, images: dict[str, torch.Tensor], known: list[Row] | None = None) -> list[Row]:
    """A row for each method, with means over the images; the classical rows are `known`, if given."""
    cases: dict[str, tuple[Measured, torch.Tensor]] = {}
    ours: list[Row] = []
    for method, name in OWN.items():
        prior, rows = iv.priors.load(name, dtype=torch.bfloat16), list[Row]()
        first = next(iter(images.values()))  # untimed, because the first call loads modules and weights
        iv.restore(first, **options_for(task, first), prior=prior, simulate=True)
        for image, pixels in images.items():
            options = options_for(task, pixels) | {"prior": prior, "simulate": True, "seed": 0}
            done, seconds = timed(lambda o=options, x=pixels: iv.restore(x, **o))
            cases[image] = (measured(options, done), done.truth)
            rows.append({**scored(done.image.pixels.permute(1, 2, 0).numpy(), done.truth), "seconds": seconds})
        ours.append(_mean(method, "", rows))
        print(json.dumps(ours[-1]), flush=True)
    if known is not None:
        return [*(row for row in known if row["method"] not in OWN), *ours]
    degraded = [scored(y.image, truth) for y, truth in cases.values()] if TASKS[task]["task"] != "superres" else []
    found = [_mean("as it came", "", degraded)] if degraded else []
    for method in METHODS[TASKS[task]["task"]]:
        tried = []
        for number in method.numbers:
            runs = [timed(lambda y=y, n=number, m=method: m.make(y, n)) for y, _ in cases.values()]
            scores = [scored(x, truth) for (x, _), (_, truth) in zip(runs, cases.values(), strict=True)]
            merged = [{**s, "seconds": seconds} for s, (_, seconds) in zip(scores, runs, strict=True)]
            parameter = f"{number:g} of {', '.join(f'{n:g}' for n in method.numbers)}" if method.numbers[1:] else ""
            tried.append(_mean(method.name, parameter, merged))
        found.append(max(tried, key=lambda row: row["psnr"]))
        print(json.dumps(found[-1]), flush=True)
    return [*found, *ours]


def _mean(name: str, parameter: str, rows: list[Row]) -> Row:
    means = {key: statistics.fmean(row[key] for row in rows) for key in rows[0]}
    return {"method": name, "parameter": parameter, **means, "images": len(rows)}


def page(results: dict[str, list[Row]]) -> str:
    """A table for each task."""
    head, parts = ["method", "parameter", "PSNR dB", "SSIM", "s an image"], []
    for task, rows in results.items():
        cells = []
        for row in rows:
            seconds = f"{row['seconds']:.2f}" if "seconds" in row else ""
            cells.append([row["method"], row["parameter"], f"{row['psnr']:.2f}", f"{row['ssim']:.3f}", seconds])
        parts.append(f"## {task}\n\n{markdown(head, cells)}")
    return "\n".join(["# Classical methods\n\nMade by `python -m benchmarks.peers`.\n", *parts])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS), help=", ".join(TASKS).replace("%", "%%"))
    parser.add_argument("--images", nargs="+")
    parser.add_argument("--own", action="store_true", help="measure only invsolve's rows again")
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = {name: x for name, x in held_out() if args.images is None or name in args.images}
    path = RESULTS / "peers.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    for task in args.tasks:
        known = results.get(task) if args.own else None
        results[task] = rows_of(task, images, known)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({name: results[name] for name in TASKS if name in results}, indent=1) + "\n")
    (RESULTS / "peers.md").write_text(page(results))


if __name__ == "__main__":
    main()
