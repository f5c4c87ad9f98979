"""Memory and time of one NDTM step on the FFHQ architecture, with and without activation checkpointing.

    python -m benchmarks.priors.checkpointing --size 256

Each mode runs in its own process, with seeded weights read from a file. Memory is the largest resident set during the
step minus the resident set before it (the weights are then in memory). Time is processor time, which does not include
other programs on the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import invsolve as iv
from benchmarks.common import added_memory
from benchmarks.networks import FFHQ
from invsolve import costs, operators, priors, solvers
from invsolve.priors.networks.adm import ADMUNet

HERE = Path(__file__).parent


def write_weights(path: Path) -> None:
    """Write the FFHQ architecture with seeded weights that keep activations of order one."""
    g = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in ADMUNet(FFHQ).state_dict().items()}
    state = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            state[name] = torch.full(shape, float(name.endswith("weight")))
        else:
            state[name] = torch.randn(shape, generator=g) / shape[1:].numel() ** 0.5
    torch.save(state, path)


def measure(path: Path, size: int, checkpointing: bool, inner: int) -> dict[str, float]:
    """One step in this process."""
    torch.set_num_threads(1)
    prior = priors.load(path, size=size, checkpointing=checkpointing)
    operator = operators.SuperResolution((3, size, size), 4)
    cost = costs.GaussianLikelihood(operator, torch.full((1, 3, size // 4, size // 4), 0.5), 0.01)
    prior.denoise(torch.zeros(1, 3, 32, 32), 0.5)
    small = torch.zeros(1, 3, 32, 32, requires_grad=True)
    torch.autograd.grad(prior.denoise(small, 0.5).sum(), small)  # untimed: imports and setup
    problem, solver = iv.Problem(prior, cost), solvers.NDTM(n_steps=1, n_inner=inner, start="random")
    results, began = list[iv.Result](), time.process_time()
    before, added = added_memory(lambda: results.append(iv.solve(problem, solver)))
    seconds = time.process_time() - began
    assert results[0].ok
    return {"seconds": seconds, "step_gib": added, "process_gib": before + added}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="side of the image")
    parser.add_argument("--inner", type=int, default=2, help="inner iterations of the step")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "checkpointing.json")
    parser.add_argument("--mode", choices=("plain", "checkpointing"), help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.mode is not None:
        print(json.dumps(measure(args.weights, args.size, args.mode == "checkpointing", args.inner)))
        return
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "ffhq.pt"
        write_weights(weights)
        for mode in ("plain", "checkpointing"):
            command = [
                sys.executable,
                "-m",
                "benchmarks.priors.checkpointing",
                "--mode",
                mode,
                "--weights",
                str(weights),
            ]
            command += ["--size", str(args.size), "--inner", str(args.inner)]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            rows[mode] = json.loads(run.stdout.splitlines()[-1])
            print(mode, rows[mode])
    plain, less = rows["plain"], rows["checkpointing"]
    ratios = {key: less[key] / plain[key] for key in plain}
    print("ratios", ratios)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"size": args.size, "inner": args.inner, "torch": torch.__version__, **rows, "ratios": ratios}
    args.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
