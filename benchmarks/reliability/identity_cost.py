"""`python -m benchmarks.reliability.identity_cost`: the cost of a checkpoint's identity and of a network call.

For the embedded prior on the CPU, and for a network of 92 million weights on a GPU if there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from invsolve import costs, operators, priors, solvers
from invsolve.core.identity import run_identity
from invsolve.core.prior import Prior
from invsolve.core.problem import Problem

__all__ = ["main"]


class Large(nn.Module):
    """About as many weights as guided-diffusion's FFHQ network, in 64 convolutions of 32 x 32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 400, 3, padding=1), nn.Conv2d(400, 3, 3, padding=1)
        self.blocks = nn.Sequential(*(nn.Conv2d(400, 400, 3, padding=1) for _ in range(64)))

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.last(self.blocks(self.first(x)))


def quickest(call: Callable[[], object], device: torch.device, rounds: int = 5) -> float:
    """Seconds of the fastest of several rounds."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return min(found)


def measured(name: str, prior: Prior, side: int) -> str:
    """A line with the seconds of the identity and of one network call, and the identity's share of 100 calls."""
    device = prior.device
    shape = (3, side, side)
    likelihood = costs.GaussianLikelihood(operators.Denoising(shape), torch.full((1, *shape), 0.5), 0.1)
    problem = Problem(prior, likelihood).on_prior()
    solver, x = solvers.DDIM(n_steps=100), torch.zeros(1, *shape, device=device)
    own = quickest(lambda: run_identity(problem, solver, 0, [(0, 0)], 1), device)
    with torch.no_grad():
        call = quickest(lambda: prior.denoise(x, 0.5), device)
    return f"{name}: identity {1e3 * own:.1f} ms, a call {1e3 * call:.1f} ms, {own / call:.2f} % of 100 calls"


def main() -> None:
    """Print the lines."""
    torch.set_num_threads(1)
    print(measured("natural, 256 x 256 pixels, CPU", priors.load("natural"), 256))
    if torch.cuda.is_available():
        network = priors.NetworkPrior(Large().cuda(), shape=(3, 32, 32))
        print(measured("92 million weights, GPU", network, 32))


if __name__ == "__main__":
    main()
