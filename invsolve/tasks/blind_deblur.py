"""Deblurring with an unknown blur kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from invsolve.core.checks import InputError
from invsolve.core.lazy import torch
from invsolve.core.options import option
from invsolve.core.settings import Count
from invsolve.tasks.base import Size, Streams, Task
from invsolve.tasks.deblur import Deblur, DeblurDraw, DeblurOptions, drawn_kernel

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.core.operator import Operator
    from invsolve.core.prior import Prior
    from invsolve.core.unknowns import Unknowns
    from invsolve.io import Image

__all__ = ["BlindDeblur", "BlindDraw", "BlindOptions", "JointDeblur"]

MAX_SHIFT = 4
"""Largest shift in whole pixels between a blindly restored image and the truth."""

KERNEL_SIZE = 33
"""Default side of the estimated kernel; reduced to fit small images."""

KERNEL_LR = 0.01
"""Step size of the unknown kernel's logits, as published for NDTM."""


@dataclass(frozen=True)
class BlindOptions(DeblurOptions):
    """The user options; in a simulation, the true blur is also given."""

    kernel_size: int | None = option(None, "side of the unknown blur kernel, odd (default 33)", metavar="PIXELS")


@dataclass(frozen=True)
class BlindDraw(DeblurDraw):
    """The suite options: the blur, and the grid on which its kernel is estimated."""

    side: Count = option(64, "side of the unknown kernel's grid, in pixels")


@dataclass(frozen=True, eq=False)
class BlindDeblur(Deblur):
    """`Deblur` with an unknown kernel: `kernel` is a flat placeholder until it has been estimated.

    Opposite shifts of kernel and image do not change the measurement. Therefore the kernel is centred in its frame
    (`invsolve.tasks.blind.edges.centred`), and in a simulation, the image is compared with the truth at the best shift
    by whole pixels.

    Args:
        kernel: [size, size].
        blur_sigma: see `Deblur`.
        true_kernel: the kernel that a simulation blurs with.
        second_kernel: a second estimate [size, size] from image and prior together, compared with `kernel` to check
            whether it can be trusted. None before the estimation, and without a prior.
    """

    true_kernel: Tensor | None = None
    second_kernel: Tensor | None = None

    name = "blind-deblur"
    options, suite_options = BlindOptions, BlindDraw
    noise_inflation = 1.5
    estimates_kernel = True
    tuning = {}

    @property
    def severity(self) -> tuple[str, float]:
        return self.name if self.codec is None else f"{self.name}-jpeg", 1.0

    @property
    def conditions(self) -> Mapping[str, float]:
        """Empty: an estimated kernel is not exact, even if it looks smooth."""
        return {}

    @classmethod
    def section(cls, options: Any) -> str:
        return "" if isinstance(options, BlindDraw) else Deblur.name  # suites use the solvers' own defaults

    @classmethod
    def from_options(cls, options: BlindOptions, image: Image, simulation: Streams | None) -> Self:
        from invsolve.tasks.blind.edges import check_size

        for name in ("kernel", "blur_sigma"):
            if simulation is None and getattr(options, name) is not None:
                raise InputError(
                    f"--{name.replace('_', '-')} belongs to the task deblur; blind-deblur takes it with --simulate"
                )
        true = None if simulation is None else options.known_kernel()
        side = min(image.size) - (0 if true is None else max(true.shape) // 2 * 2)
        size = options.kernel_size or min(KERNEL_SIZE, (side // 3 - 1) // 2 * 2 + 1)
        check_size(size, (side, side))
        flat = torch.full((size, size), 1.0 / size**2, dtype=torch.float64)
        return cls(flat, codec=cls.codec_of(image, simulation), true_kernel=true)

    @classmethod
    def draw(cls, options: BlindDraw, size: Size, streams: Streams) -> dict[str, Tensor]:
        return {"kernel": _on_grid(drawn_kernel(options, streams), int(options.side))}

    @classmethod
    def from_draw(cls, options: BlindDraw, drawn: Mapping[str, Tensor]) -> Task:
        return JointDeblur(int(options.side), drawn["kernel"])

    def degrade(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        if self.true_kernel is None:
            raise InputError(
                "a simulation needs the blur: give --blur-sigma (a Gaussian, in pixels) or --kernel (a file)"
            )
        return Deblur(self.true_kernel).degrade(clean)

    @property
    def estimated_kernel(self) -> Tensor:
        return self.kernel

    def identified(self, y: Tensor, sigma: float, prior: Prior | None) -> Self:
        from invsolve.tasks.blind.edges import estimate_kernel
        from invsolve.tasks.blind.joint import refine_kernel
        from invsolve.tasks.blind.network import corrected_kernel

        channels = 3 if prior is None else prior.image_channels or 3
        sigma = sigma if self.codec is None else max(sigma, self.codec.noise)
        kernel = estimate_kernel(y, self.kernel.shape[0])
        kernel = corrected_kernel(y, kernel, sigma / channels**0.5)
        if prior is None or prior.latent:
            return replace(self, kernel=kernel)
        return replace(self, kernel=kernel, second_kernel=refine_kernel(y, kernel, sigma, prior))

    def aligned(self, restored: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        return _at_best_shift(restored, truth)

    def joint(self) -> Task:
        """As published, a simulation pads the scene with zeros; a real image is padded with its mirror image."""
        side = len(self.kernel)
        if self.true_kernel is None:
            flat, level = torch.full((side, side), 1.0 / side**2), self.noise_level
            return JointRestoration(side, flat, "symmetric", level)
        return JointRestoration(side, _on_grid(self.true_kernel.float(), side))

    def record(self, prior: Prior) -> dict[str, Any]:
        from invsolve.tasks.blind.joint import TURNS

        # these calls are also counted in the statistics of the run
        calls = 0 if prior.latent else TURNS
        return {"kernel_size": len(self.kernel), "kernel_network_calls": calls, **self.compression(prior)}


@dataclass(frozen=True, eq=False)
class JointDeblur(Task):
    """Blind deblurring as benchmarked in the literature: the solver estimates kernel and image jointly.

    Args:
        side: side of the unknown kernel's grid.
        kernel: the true kernel, [side, side].
        padding: padding around the scene, see `BlindBlur`.
    """

    side: int
    kernel: Tensor
    padding: str = "zero"

    name = BlindDeblur.name

    def operator(self, channels: int, size: Size) -> Operator:
        from invsolve.operators import BlindBlur

        return BlindBlur((channels, *size), (self.side, self.side), self.padding)

    @property
    def unknowns(self) -> Unknowns:
        """The kernel: a softmax of logits, initialised from N(0, 1)."""
        from invsolve.core.unknowns import Unknown, Unknowns

        return Unknowns({"kernel": Unknown((self.side, self.side), "softmax", lr=KERNEL_LR)})

    def degrade(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        operator = self.operator(len(clean), (clean.shape[1], clean.shape[2]))
        return operator(clean[None], {"kernel": self.kernel[None]})[0], clean

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        return "blurred", y


@dataclass(frozen=True, eq=False)
class JointRestoration(JointDeblur):
    """`JointDeblur` for a user's image: the kernel is saved beside the restored image, and the position is ambiguous.

    Args:
        level: standard deviation of noise and compression error of a JPEG file; None for other files.
    """

    level: float | None = None

    estimates_kernel = True

    @property
    def noise_level(self) -> float | None:
        return self.level

    def aligned(self, restored: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        return _at_best_shift(restored, truth)

    def record(self, prior: Prior) -> dict[str, Any]:
        return {"kernel_size": self.side, "joint": True}


def _at_best_shift(restored: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Crop both images to their overlap at the shift by whole pixels with the smallest difference."""
    reach = min(MAX_SHIFT, (min(truth.shape[1:]) - 1) // 2)
    h, w = truth.shape[1] - 2 * reach, truth.shape[2] - 2 * reach
    middle = truth[:, reach : reach + h, reach : reach + w]
    places = [(i, j) for i in range(2 * reach + 1) for j in range(2 * reach + 1)]
    parts = [restored[:, i : i + h, j : j + w] for i, j in places]
    errors = [float((part - middle).square().mean()) for part in parts]
    return parts[errors.index(min(errors))], middle


def _on_grid(kernel: Tensor, side: int) -> Tensor:
    """Place the kernel on a grid of `side`, with its middle at the origin of `BlindBlur`."""
    grid = torch.zeros(side, side)
    rows, columns = kernel.shape
    if max(rows, columns) > side:
        raise InputError(f"a kernel of {rows} x {columns} pixels does not fit on a grid of {side}: enlarge side")
    top, left = (side - 1) // 2 - rows // 2, (side - 1) // 2 - columns // 2
    grid[top : top + rows, left : left + columns] = kernel
    return grid
