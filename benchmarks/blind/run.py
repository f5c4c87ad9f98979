"""Blind deblurring of held-out photographs: how well kernels are found, and what not knowing them costs.

    python benchmarks/blind/run.py [--images chelsea] [--kernels gaussian motion25] [--bf16] [--dmplug 300]

The images are those of benchmarks/restore/table.py (256x256, none of which anything was trained or tuned on), blurred
by a Gaussian of standard deviation 2 and by camera shake of 25x25 and 9x9 pixels, noise 0.01. For each: PSNR of the
blurred image, of the restoration with the true kernel, and of the blind one; the normalised correlation of the found
kernel with the true one at the best shift, and the error |k - k*| / |k*| there. Blind restorations are compared with
the truth at the best shift by whole pixels, as no measurement tells it. `--dmplug N` also runs blind DMPlug for N
iterations; `--kernels-only` makes the first estimate of the kernels, from edges alone, and restores nothing. Results
are written as JSON and Markdown beside this file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import invsolve as iv
from invsolve import costs, operators, solvers
from invsolve.restoration import restore
from invsolve.restoration.scores import score
from invsolve.tasks.blind_deblur import BlindDeblur

HERE = Path(__file__).parent
NOISE = 0.01


def held_out() -> dict[str, Tensor]:
    """The four images of scikit-image, from the restoration benchmark."""
    spec = importlib.util.spec_from_file_location("table", HERE.parent / "restore" / "table.py")
    assert spec is not None
    assert spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    return {name: x for name, x in table.held_out() if name in ("astronaut", "chelsea", "coffee", "rocket")}


def shake(size: int, seed: int) -> Tensor:
    """The first camera shake, from `seed` on, whose trace fills 80 to 100 % of `size` pixels, in the frame's middle."""
    while True:
        trace = operators.camera_shake_kernel(1.3 * size, 0.3, iv.Rng(seed))
        used = trace > 0
        rows, columns = used.any(1).nonzero()[:, 0], used.any(0).nonzero()[:, 0]
        trace = trace[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        if 0.8 * size <= max(trace.shape) <= size:
            top, left = (size - trace.shape[0]) // 2, (size - trace.shape[1]) // 2
            sides = (left, size - trace.shape[1] - left, top, size - trace.shape[0] - top)
            return F.pad(trace, sides) / trace.sum()
        seed += 1


KERNELS = {
    "gaussian": lambda: operators.gaussian_kernel(2.0, 12),
    "motion25": lambda: shake(25, 1000),
    "motion9": lambda: shake(9, 2000),
}


def compare(found: Tensor, true: Tensor) -> tuple[float, float]:
    """(normalised correlation, relative error) of two kernels at the best shift."""
    grid = (found.shape[0] + true.shape[0], found.shape[1] + true.shape[1])
    product = torch.fft.rfft2(found.double(), grid).conj() * torch.fft.rfft2(true.double(), grid)
    inner = float(torch.fft.irfft2(product, grid).max())
    a, b = float(found.double().norm()), float(true.double().norm())
    return inner / (a * b), max(a * a + b * b - 2 * inner, 0.0) ** 0.5 / b


def measure(image: Tensor, kernel: Tensor, prior: iv.Prior, seed: int) -> dict[str, Any]:
    """One row: the same measurement restored with and without the kernel."""
    options: dict[str, Any] = {"simulate": True, "kernel": kernel, "noise": NOISE, "prior": prior, "seed": seed}
    known = restore(image, "deblur", **options).record["scores"]
    began = time.perf_counter()
    blind = restore(image, "blind-deblur", kernel_size=len(kernel), **options)
    seconds = time.perf_counter() - began
    assert blind.kernel is not None
    correlation, error = compare(blind.kernel, kernel)
    return {
        "blurred": blind.record["scores"]["blurred"]["psnr"],
        "known": known["restored"]["psnr"],
        "blind": blind.record["scores"]["restored"]["psnr"],
        "correlation": correlation,
        "kernel_error": error,
        "seconds": seconds,
    }


def estimated(image: Tensor, kernel: Tensor, seed: int) -> dict[str, Any]:
    """One row without restorations: the kernel of the same measurement."""
    task = BlindDeblur(kernel, true_kernel=kernel)
    y, truth = task.degrade(image)
    y = y + NOISE * iv.Rng(seed, [("noise", 0)]).normal(y[None])[0]
    began = time.process_time()
    found = task.identified(y, NOISE, None).kernel
    seconds = time.process_time() - began
    correlation, error = compare(found, kernel)
    blurred = score(*task.aligned(y, truth))["psnr"]
    return {"blurred": blurred, "correlation": correlation, "kernel_error": error, "cpu_seconds": seconds}


def dmplug(image: Tensor, kernel: Tensor, prior: iv.Prior, seed: int, iterations: int) -> dict[str, float]:
    """Blind DMPlug on the same measurement (of the part of the scene that is seen, mirrored beyond it)."""
    task = BlindDeblur(kernel, true_kernel=kernel)
    y, truth = task.degrade(image)
    y = y + NOISE * iv.Rng(seed, [("noise", 0)]).normal(y[None])[0]
    operator = operators.BlindBlur((3, *y.shape[1:]), (len(kernel), len(kernel)), "reflect")
    unknowns = iv.Unknowns({"kernel": iv.Unknown(tuple(kernel.shape), "softmax", lr=0.1)})
    problem = iv.Problem(prior, costs.GaussianLikelihood(operator, y[None], NOISE), unknowns)
    result = iv.solve(problem, solvers.DMPlug(n_iterations=iterations), seed=seed)
    found = result.theta["kernel"][0, 0].flip(-2, -1)  # operators correlate, a point becomes the mirror image
    psnr = score(*task.aligned(result.samples[0, 0].float(), truth))["psnr"]
    assert psnr is not None
    return {"dmplug": psnr, "dmplug_correlation": compare(found, kernel)[0]}


def markdown(rows: list[dict[str, Any]]) -> str:
    """A line for each image and kernel, and the means."""
    extra = ["dmplug"] if any("dmplug" in row for row in rows) else []
    restored = ["known", "blind"] if all("blind" in row for row in rows) else []
    names = ["known kernel", "blind"] if restored else []
    head = ["kernel", "image", "blurred", *names, *extra, "correlation", "kernel error"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    keys = ["blurred", *restored, *extra, "correlation", "kernel_error"]
    for kernel in dict.fromkeys(row["kernel"] for row in rows):
        part = [row for row in rows if row["kernel"] == kernel]
        mean = {key: statistics.fmean(row.get(key, float("nan")) for row in part) for key in keys}
        for row in [*part, {"kernel": kernel, "image": "mean", **mean}]:
            cells = [f"{row.get(key, float('nan')):.{3 if 'corr' in key or 'err' in key else 2}f}" for key in keys]
            lines.append("| " + " | ".join([row["kernel"], row["image"], *cells]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+")
    parser.add_argument("--kernels", nargs="+", default=list(KERNELS), choices=list(KERNELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="run the network in bfloat16")
    parser.add_argument("--dmplug", type=int, metavar="N", help="iterations of blind DMPlug")
    parser.add_argument("--kernels-only", action="store_true", help="estimate the kernels, restore nothing")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    images = {name: x for name, x in held_out().items() if args.images is None or name in args.images}
    options = {"dtype": torch.bfloat16} if args.bf16 else {}
    prior = None if args.kernels_only else iv.priors.load("natural", **options)
    rows = []
    for name in args.kernels:
        kernel = KERNELS[name]()
        for image, x in images.items():
            row = {"kernel": name, "image": image}
            row |= estimated(x, kernel, args.seed) if prior is None else measure(x, kernel, prior, args.seed)
            if args.dmplug and prior is not None:
                row |= dmplug(x, kernel, prior, args.seed, args.dmplug)
            rows.append(row)
            print(json.dumps(row), flush=True)
            write(args, rows)
    print(markdown(rows))


def write(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """The rows so far, as JSON and as Markdown."""
    args.out.mkdir(parents=True, exist_ok=True)
    name = "kernels" if args.kernels_only else "blind"
    (args.out / f"{name}.json").write_text(
        json.dumps({"seed": args.seed, "bf16": args.bf16, "rows": rows}, indent=1) + "\n"
    )
    (args.out / f"{name}.md").write_text(markdown(rows))


if __name__ == "__main__":
    main()
