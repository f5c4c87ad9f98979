"""The tasks: how each degrades an image, and what one has without the library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import InputError
from invsolve.core.operator import LinearOperator

if TYPE_CHECKING:
    from invsolve.core.prior import Prior
    from invsolve.tasks.observed_blur import ObservedBlur

__all__ = ["TASKS", "BlindDeblur", "Deblur", "Denoise", "Inpaint", "Superres", "Task", "resized"]

Size = tuple[int, int]

MAX_BLUR = 50

MAX_SHIFT = 4
"""Whole pixels by which a blindly restored image may lie beside the truth."""


class Task(ABC):
    """What was done to an image. Sizes are (height, width); images [C, H, W] in [0, 1].

    The solver's image, which the operator degrades, may be larger than the restored one: see `visible`.
    """

    name: ClassVar[str]
    simulated_noise: ClassVar[float] = 0.01
    """Noise that a simulation adds where none is asked for."""
    unexplained: ClassVar[float] = 1.0
    """What the operator's own error makes of the noise level."""

    @property
    def preset(self) -> str:
        """The section of the preset tables."""
        return self.name

    @abstractmethod
    def operator(self, channels: int, size: Size) -> LinearOperator:
        """The degradation whose measurements are of `size`."""

    @abstractmethod
    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        """What one has without the library, [C, *restored size], and its name."""

    def restored_size(self, size: Size) -> Size:
        """The size of the restored image of a degraded one of `size`."""
        return size

    def measured_size(self, size: Size) -> Size:
        """The size of the measurement that a simulation makes of a clean image of `size`."""
        return size

    def visible(self, x: Tensor, size: Size) -> Tensor:
        """The restored image [..., *restored size] in the solver's one, for a measurement of `size`."""
        return x

    def degrade(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """The measurement of a clean image, still without noise, and the part of the image that it shows."""
        size = self.measured_size((clean.shape[1], clean.shape[2]))
        operator = self.operator(len(clean), size)
        _, height, width = operator.in_shape
        scene = clean[:, :height, :width]
        scene = F.pad(scene, (0, width - scene.shape[2], 0, height - scene.shape[1]))
        return operator(scene[None])[0], self.visible(scene, size)

    def shown(self, y: Tensor) -> Tensor:
        """The degraded image as it is seen, [C, *restored size]."""
        return y

    def known(self, y: Tensor) -> Tensor | None:
        """Pixels of `y` that were measured, bool [H, W]; all of them if None."""
        return None

    def opacity(self, alpha: Tensor) -> Tensor | None:
        """The restored image's opacity [1, H, W] for that of the degraded one."""
        return alpha

    def identified(self, y: Tensor, sigma: float, prior: Prior | None) -> Self:
        """The task with all that was unknown about it told by a measurement [C, h, w], its noise level, and a prior."""
        return self

    def aligned(self, restored: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """What is compared with the truth of a simulation: the whole image, unless its place is ambiguous."""
        return restored, truth


@dataclass(frozen=True)
class Denoise(Task):
    """y = x + noise."""

    name = "denoise"
    simulated_noise = 0.1

    def operator(self, channels: int, size: Size) -> LinearOperator:
        from invsolve.operators import Denoising

        return Denoising((channels, *size))

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        return "noisy", y


@dataclass(frozen=True)
class Superres(Task):
    """y = x made smaller by bicubic interpolation, + noise.

    Args:
        factor: by which the image was made smaller, 2 or more.
    """

    factor: int = 4

    name = "superres"

    def __post_init__(self) -> None:
        if isinstance(self.factor, bool) or not isinstance(self.factor, int) or self.factor < 2:
            raise InputError(f"factor must be an integer of at least 2, got {self.factor}")

    @property
    def preset(self) -> str:
        return "superres2" if self.factor < 3 else "superres4"

    def operator(self, channels: int, size: Size) -> LinearOperator:
        from invsolve.operators import SuperResolution

        return SuperResolution((channels, *self.restored_size(size)), factor=self.factor)

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        return "bicubic", resized(y, self.restored_size((y.shape[1], y.shape[2])))

    def restored_size(self, size: Size) -> Size:
        self._fits(size)
        return self.factor * size[0], self.factor * size[1]

    def measured_size(self, size: Size) -> Size:
        self._fits(size)
        return size[0] // self.factor, size[1] // self.factor

    def shown(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.factor, 1).repeat_interleave(self.factor, 2)

    def opacity(self, alpha: Tensor) -> Tensor:
        return resized(alpha, self.restored_size((alpha.shape[1], alpha.shape[2]))).clamp(0, 1)

    def _fits(self, size: Size) -> None:
        if self.factor > min(size):
            raise InputError(f"a factor of {self.factor} is larger than the image of {size[1]} x {size[0]} pixels")


@dataclass(frozen=True, eq=False)
class Inpaint(Task):
    """y = x where it is known, + noise.

    Args:
        missing: bool [H, W].
        own: the image's own transparency says what is missing, so that the restored one is opaque.
    """

    missing: Tensor
    own: bool = False

    name = "inpaint"

    def operator(self, channels: int, size: Size) -> LinearOperator:
        from invsolve.operators import Inpainting

        return Inpainting((channels, *size), ~self.missing)

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        """Telea 2004, "An image inpainting technique based on the fast marching method", by OpenCV, radius 3."""
        import cv2
        import numpy

        values = (y.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        filled = cv2.inpaint(values, self.missing.byte().numpy(), 3, cv2.INPAINT_TELEA)
        planes = torch.from_numpy(numpy.asarray(filled)).float() / 255
        planes = planes[None] if planes.ndim == 2 else planes.permute(2, 0, 1)
        return "Telea", torch.where(self.missing, planes, y)

    def shown(self, y: Tensor) -> Tensor:
        return torch.where(self.missing, 0.5, y)

    def known(self, y: Tensor) -> Tensor:
        return ~self.missing

    def opacity(self, alpha: Tensor) -> Tensor | None:
        return None if self.own else alpha


@dataclass(frozen=True, eq=False)
class Deblur(Task):
    """y = x blurred, + noise, where x is a scene that is larger than the image: see `ObservedBlur`.

    Args:
        kernel: what a point became, [h, w], sums to one.
    """

    kernel: Tensor

    name = "deblur"

    @classmethod
    def gaussian(cls, sigma: float) -> Self:
        """The blur by a Gaussian of standard deviation `sigma` in pixels.

        Raises:
            InputError: it is not above 0, or too large to be undone.
        """
        from invsolve.operators.kernels import gaussian_kernel

        if not 0 < sigma <= MAX_BLUR:
            raise InputError(f"blur-sigma is in pixels, above 0 and at most {MAX_BLUR}, got {sigma}")
        return cls(gaussian_kernel(sigma))

    def operator(self, channels: int, size: Size) -> ObservedBlur:
        from invsolve.tasks.observed_blur import ObservedBlur

        if any(k > s for k, s in zip(self.kernel.shape, size, strict=True)):
            raise InputError(
                f"the blur of {self.kernel.shape[1]} x {self.kernel.shape[0]} pixels is larger than the image of "
                f"{size[1]} x {size[0]}"
            )
        return ObservedBlur((channels, *size), self.kernel)

    def measured_size(self, size: Size) -> Size:
        return size[0] - self.kernel.shape[0] // 2 * 2, size[1] - self.kernel.shape[1] // 2 * 2

    def visible(self, x: Tensor, size: Size) -> Tensor:
        top, left = self.kernel.shape[0] // 2, self.kernel.shape[1] // 2
        return x[..., top : top + size[0], left : left + size[1]]

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        return "blurred", y


@dataclass(frozen=True, eq=False)
class BlindDeblur(Deblur):
    """`Deblur` by a kernel that is not known: `kernel` is a flat stand-in until it has been estimated.

    A kernel and an image can move against each other without a trace in the measurement: the kernel's centre of mass
    is put into its middle, and a simulation's image is compared with the truth at the best shift by whole pixels.

    Args:
        kernel: [size, size].
        true_kernel: what a simulation blurs with.
    """

    true_kernel: Tensor | None = None

    name = "blind-deblur"
    unexplained = 1.5

    @property
    def preset(self) -> str:
        return Deblur.name

    def degrade(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        if self.true_kernel is None:
            raise InputError("to simulate a blur give it: --blur-sigma (a Gaussian, in pixels) or --kernel (a file)")
        return Deblur(self.true_kernel).degrade(clean)

    def identified(self, y: Tensor, sigma: float, prior: Prior | None) -> Self:
        from invsolve.tasks.blind.edges import estimate_kernel
        from invsolve.tasks.blind.joint import refine_kernel

        kernel = estimate_kernel(y, self.kernel.shape[0])
        if prior is not None and not prior.latent:
            kernel = refine_kernel(y, kernel, sigma, prior)
        return replace(self, kernel=kernel)

    def aligned(self, restored: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        reach = min(MAX_SHIFT, (min(truth.shape[1:]) - 1) // 2)
        h, w = truth.shape[1] - 2 * reach, truth.shape[2] - 2 * reach
        middle = truth[:, reach : reach + h, reach : reach + w]
        places = [(i, j) for i in range(2 * reach + 1) for j in range(2 * reach + 1)]
        parts = [restored[:, i : i + h, j : j + w] for i, j in places]
        errors = [float((part - middle).square().mean()) for part in parts]
        return parts[errors.index(min(errors))], middle


TASKS: Mapping[str, type[Task]] = {task.name: task for task in (Denoise, Superres, Inpaint, Deblur, BlindDeblur)}
"""The tasks by name."""


def resized(image: Tensor, size: Size) -> Tensor:
    """Bicubic interpolation with Keys' kernel, a = -0.5 (what `antialias` selects; nothing is smoothed upwards)."""
    return F.interpolate(image[None], size=size, mode="bicubic", align_corners=False, antialias=True)[0]
