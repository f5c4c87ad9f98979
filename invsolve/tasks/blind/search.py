"""The blur of an image from several starts, and the likeliest of all kernels that they lead to.

    starts      edges, on the whole frame and on one of 17 pixels          (`invsolve.tasks.blind.edges`)
    evidence    from each, with the prior of kernels and without           (`invsolve.tasks.blind.evidence`)
    prior       from the first edges and from the likeliest of the others, with the prior of images; there with the
                image's own noise, here with at least 0.01                       (`invsolve.tasks.blind.joint`)
    evidence    from the likelier of these two, without going far
    choice      of all of them the kernel of least F(k) + weight |D(k) - k| / |k|

F is the free energy of the image's gradients, D the denoiser of kernels (`invsolve.priors.kernels`): what it would
change is how little a kernel looks like one. No step can lose what another has found, whatever it does to the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from invsolve.core.prior import Prior
from invsolve.priors.kernels import KernelDenoiser, packaged_kernels
from invsolve.tasks.blind.edges import estimate_kernel
from invsolve.tasks.blind.evidence import free_energy, likelier_kernel
from invsolve.tasks.blind.joint import TURNS, refine_kernel

__all__ = ["NETWORK_CALLS", "Candidate", "cost", "find_kernel", "rival"]

SMALL, SMALL_FROM = 17, 21
"""Side of the frame of the second start, and of the frames from which there is one."""

FAR, NEAR = 4.0, 1.0
"""Noise factors of `likelier_kernel`, from edges and from a kernel that is nearly right."""

NETWORK_CALLS = 2 * TURNS
"""Of a search with the prior of images."""

LEVEL, WEIGHT, MOST = 0.1, 15.0, 0.3
"""Level of the denoising of kernels, and the weight of what it would change: so many times sigma, at most `MOST`. The
more noise, the less the evidence tells kernels apart. On tuning photographs (`benchmarks.blind`) any weight from 0.05
to 0.25 chooses about equally well."""


@dataclass(frozen=True)
class Candidate:
    """A kernel that was found.

    Attributes:
        kernel: [s, s], at least 0, sums to one, in the middle.
        start: side of the frame on which its start was looked for.
        step: "edges", "evidence" or "prior".
        cost: see `cost`; the least is the likeliest.
    """

    kernel: Tensor
    start: int
    step: str
    cost: float


def cost(y: Tensor, kernel: Tensor, sigma: float, kernels: KernelDenoiser | None = None) -> float:
    """F(k) + weight |D(k) - k| / |k|: what the choice among kernels goes by, without a truth to compare with.

    Args:
        y: the blurred image [C, H, W] in [0, 1].
        kernel: [s, s], s odd; all that are compared have one size.
        sigma: standard deviation of the noise in [0, 1] units, above 0.
        kernels: D; that of the package if None.
    """
    denoise = kernels or packaged_kernels()
    unlike = float((denoise(kernel, LEVEL) - kernel).norm() / kernel.norm())
    return free_energy(y, kernel, sigma) + min(WEIGHT * sigma, MOST) * unlike


def find_kernel(y: Tensor, size: int, sigma: float, prior: Prior | None) -> list[Candidate]:
    """Kernels that may have blurred the image, the likeliest first.

    Args:
        y: the blurred image [1 or 3, H, W] in [0, 1].
        size: side of the kernels, odd, at least 3, and larger than the blur.
        sigma: standard deviation of the noise of a channel in [0, 1] units, above 0.
        prior: of images; None where the search has to do without.

    Raises:
        InputError: an even or too large size, or an image without contrast.
    """
    kernels = packaged_kernels()

    def judged(kernel: Tensor, start: int, step: str) -> Candidate:
        return Candidate(kernel, start, step, cost(y, kernel, sigma, kernels))

    found: list[Candidate] = []
    for start in (size, SMALL) if size >= SMALL_FROM else (size,):
        edges = F.pad(estimate_kernel(y, start), ((size - start) // 2,) * 4)
        found.append(judged(edges, start, "edges"))
        for prior_of_kernels in (None, kernels.quick):
            likelier = likelier_kernel(y, edges, sigma, FAR, prior_of_kernels)
            found.append(judged(likelier, start, "evidence"))
    if prior is not None:
        best = min(found[1:], key=lambda c: c.cost)
        refined = [
            judged(refine_kernel(y, found[0].kernel, sigma, prior, 0.0), found[0].start, "prior"),
            judged(refine_kernel(y, best.kernel, sigma, prior), best.start, "prior"),
        ]
        better = min(refined, key=lambda c: c.cost)
        found += [*refined, judged(likelier_kernel(y, better.kernel, sigma, NEAR), better.start, "prior")]
    return sorted(found, key=lambda c: c.cost)


def rival(found: Sequence[Candidate]) -> Candidate:
    """The kernel that the likeliest one is compared with: the first edges, or where they are it another step's.

    Two kernels that were found in so different ways and agree are seldom both wrong.

    Args:
        found: by `find_kernel`.
    """
    first = max((c for c in found if c.step == "edges"), key=lambda c: c.start)
    return first if found[0] is not first else next((c for c in found if c.step != "edges"), first)
