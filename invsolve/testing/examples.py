"""A small instance of every registered operator, for the conformance tests and the test matrix of solvers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from invsolve import operators as ops
from invsolve.core.operator import Operator
from invsolve.core.rng import Rng
from invsolve.core.unknowns import Unknown, Unknowns

__all__ = ["EXAMPLES", "Example", "example"]

SHAPE = (3, 16, 16)


class Example(NamedTuple):
    """An operator, the unknowns that a blind operator needs, and the optional package that it requires, if any."""

    operator: Operator
    unknowns: Unknowns | None = None
    package: str | None = None

    def theta(self, n: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Return valid values of the unknowns, [n, ...] each."""
        if self.unknowns is None:
            return {}
        raw = self.unknowns.init(n, Rng(0), torch.empty(0, dtype=dtype))
        return self.unknowns.constrain(raw)


def _kernel_block(side: int) -> Unknowns:
    return Unknowns({"kernel": Unknown((side, side), "softmax")})


def _varying() -> tuple[Tensor, Tensor]:
    kernels = torch.stack([ops.gaussian_kernel(0.7, 2), ops.gaussian_kernel(1.2, 2)])
    return kernels, ops.VaryingBlur.grid(1, 2, 16, 16)


def _wizard() -> Operator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ops.KernelWizard(width=4, front=1, back=1)
    return ops.KernelWizardBlur.draw((3, 128, 128), network.double(), Rng(0))


def _coils() -> Tensor:
    grid = torch.linspace(-1, 1, 16, dtype=torch.float64)
    rows, columns = torch.meshgrid(grid, grid, indexing="ij")
    return torch.stack([torch.polar(1.0 + 0.4 * rows, columns), torch.polar(1.0 - 0.4 * columns, rows)])


def _path() -> Tensor:
    return torch.stack([torch.linspace(0, 1, 18).sin(), 3 * torch.linspace(0, 2, 18).sin()], -1)


EXAMPLES: Mapping[str, Callable[[], Example]] = {
    "blind-blur": lambda: Example(ops.BlindBlur(SHAPE, (5, 5)), _kernel_block(5)),
    "blind-downsampling": lambda: Example(ops.BlindDownsampling(SHAPE, 2, (3, 3)), _kernel_block(3)),
    "blur": lambda: Example(ops.Blur(SHAPE, ops.motion_kernel(5, 30.0), "reflect")),
    "camera-blur": lambda: Example(ops.CameraBlur(SHAPE, *_varying(), exposure=1.3)),
    "coded-diffraction": lambda: Example(ops.CodedDiffraction(SHAPE, 2, rng=Rng(0))),
    "colourisation": lambda: Example(ops.Colourisation(SHAPE)),
    "crop": lambda: Example(ops.Crop.middle(SHAPE, 10, 12)),
    "decimation": lambda: Example(ops.Decimation(SHAPE, 3)),
    "demosaicing": lambda: Example(ops.Demosaicing(SHAPE)),
    "denoising": lambda: Example(ops.Denoising(SHAPE)),
    "fourier-magnitude": lambda: Example(ops.FourierMagnitude(SHAPE)),
    "gaussian-blur": lambda: Example(ops.GaussianBlur(SHAPE, 0.8, "symmetric")),
    "hadamard-sensing": lambda: Example(ops.HadamardSensing(SHAPE, 0.5, rng=Rng(0))),
    "high-dynamic-range": lambda: Example(ops.HighDynamicRange(SHAPE)),
    "inpainting": lambda: Example(ops.Inpainting.random(SHAPE, 0.5, rng=Rng(0))),
    "jpeg": lambda: Example(ops.JPEG(SHAPE, 50)),
    "kernel-wizard-blur": lambda: Example(_wizard()),
    "motion-blur": lambda: Example(ops.MotionBlur(SHAPE, 5, 20.0)),
    "mri": lambda: Example(
        ops.MRI((2, 16, 16), Rng(0).uniform(torch.empty(1, 16, 16))[0] < 0.5, _coils()),
    ),
    "multi-frame": lambda: Example(ops.MultiFrame(SHAPE, 2, [(0, 0), (0.5, -0.5)])),
    "pad": lambda: Example(ops.Pad(SHAPE, (1, 2), (0, 3))),
    "pan-sharpening": lambda: Example(ops.PanSharpening(SHAPE, 2)),
    "quantisation": lambda: Example(ops.Quantisation(SHAPE)),
    "radio-interferometry": lambda: Example(
        ops.RadioInterferometry((1, 16, 16), 6 * Rng(0).uniform(torch.empty(1, 2, 60))[0] - 3), package="torchkbnufft"
    ),
    "random-convolution": lambda: Example(ops.RandomConvolution(SHAPE, 0.5, rng=Rng(0))),
    "rolling-shutter": lambda: Example(ops.RollingShutter(SHAPE, _path(), 3)),
    "shift": lambda: Example(ops.Shift(SHAPE, 0.3, -1.6)),
    "shifted-mask": lambda: Example(
        ops.ShiftedMask(SHAPE, (torch.arange(16) % 8 < 5).float().expand(16, 16)),
        Unknowns({"offset": Unknown((2,))}),
    ),
    "super-resolution": lambda: Example(ops.SuperResolution(SHAPE, 2)),
    "tomography": lambda: Example(ops.Tomography(SHAPE, 8)),
    "tone-curve": lambda: Example(ops.ToneCurve(SHAPE), Unknowns({"gamma": Unknown((1,), "softplus")})),
    "varying-blur": lambda: Example(ops.VaryingBlur(SHAPE, *_varying())),
}
"""Examples by registry name, for the operators that need more than an image shape; each call makes a new one."""


def example(name: str) -> Example:
    """Return the example of a registered operator: from `EXAMPLES`, or made from an image shape alone."""
    return EXAMPLES[name]() if name in EXAMPLES else Example(ops.OPERATORS[name](in_shape=SHAPE))
