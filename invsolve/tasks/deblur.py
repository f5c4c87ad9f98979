"""Deblurring with a known blur kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from invsolve.core.checks import InputError
from invsolve.core.lazy import torch
from invsolve.core.options import option
from invsolve.core.settings import Positive, check_settings
from invsolve.io.inputs import Source, without_hidden_colours
from invsolve.tasks.base import Size, Streams, Task
from invsolve.tasks.inputs import read_kernel
from invsolve.tasks.jpeg import JPEG
from invsolve.tasks.jpeg_measured import JPEGMeasured

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.core.operator import LinearOperator
    from invsolve.io import Image

__all__ = ["Deblur", "DeblurDraw", "DeblurOptions", "drawn_kernel"]

MAX_BLUR = 50

ALIKE = 0.1
"""Largest total variation distance to the Gaussian of equal covariance at which a kernel counts as Gaussian."""


@dataclass(frozen=True)
class DeblurOptions:
    """The user options: give exactly one."""

    kernel: Source | None = option(
        None,
        "blur kernel (PSF): an image, .npy, .txt or .csv; the middle of an even side is entry side // 2",
        metavar="FILE",
    )
    blur_sigma: float | None = option(None, "or the standard deviation of a Gaussian blur", metavar="PIXELS")

    def __post_init__(self) -> None:
        check_settings(self)

    def known_kernel(self) -> Tensor:
        """Return the kernel [h, w], which sums to one.

        Raises:
            InputError: none or both options are given, the kernel cannot be read, or the blur is too wide.
        """
        from invsolve.operators.kernels import gaussian_kernel

        if (self.kernel is None) == (self.blur_sigma is None):
            raise InputError(
                "deblurring needs the blur: give --blur-sigma (a Gaussian, in pixels) or --kernel (a file)"
            )
        if self.blur_sigma is None:
            return read_kernel(self.kernel)
        if not 0 < self.blur_sigma <= MAX_BLUR:
            raise InputError(f"blur-sigma must be above 0 and at most {MAX_BLUR} pixels, got {self.blur_sigma}")
        return gaussian_kernel(self.blur_sigma)


@dataclass(frozen=True)
class DeblurDraw:
    """The suite options: a Gaussian blur, or a camera shake drawn for each image and seed."""

    std: Positive | None = option(None, "standard deviation of a Gaussian blur, in pixels")
    length: Positive | None = option(None, "length of a camera shake, in pixels")
    intensity: Positive | None = option(None, "how crooked the shake is (default 0.5)")

    def __post_init__(self) -> None:
        check_settings(self)
        if (self.std is None) == (self.length is None):
            raise InputError("give std (a Gaussian) or length and intensity (camera shake)")


def drawn_kernel(options: DeblurDraw, streams: Streams) -> Tensor:
    """Return the blur kernel [h, w] of a suite item."""
    from invsolve.operators.kernels import camera_shake_kernel, gaussian_kernel

    if options.std is not None:
        return gaussian_kernel(float(options.std)).float()
    intensity = 0.5 if options.intensity is None else options.intensity
    return camera_shake_kernel(float(options.length or 0), float(intensity), streams("kernel")).float()


@dataclass(frozen=True, eq=False)
class Deblur(JPEGMeasured):
    """y = k * x + noise, where the scene x is larger than the image: see `ObservedBlur`.

    For a JPEG file, the DCT coefficients are compared; the accuracy of each frequency follows from its quantisation
    step.

    Args:
        kernel: blur kernel (point spread function) [h, w], sums to one.
        blur_sigma: standard deviation in pixels if the kernel was given as a Gaussian.
        codec: how the blurred image was compressed, if it is or was a JPEG file.
    """

    kernel: Tensor
    blur_sigma: float | None = None
    codec: JPEG | None = None

    name = "deblur"
    options, suite_options = DeblurOptions, DeblurDraw
    tuning = {"deblur": ((0.01, {"std": 2.0}),)}

    @classmethod
    def from_options(cls, options: Any, image: Image, simulation: Streams | None) -> Self:
        return cls(options.known_kernel(), options.blur_sigma, cls.codec_of(image, simulation))

    @staticmethod
    def codec_of(image: Image, simulation: Streams | None) -> JPEG | None:
        """Return the JPEG compression of an image, with the accuracy of each frequency; None if there is none, or in
        simulations."""
        from invsolve.noise.estimate import noise_of
        from invsolve.noise.white import QUANTISATION

        found = None if simulation is not None else JPEG.of_image(image)
        if found is None:
            return None
        pixels = without_hidden_colours(image)
        return found.by_frequency(pixels, noise_of(pixels, image.seen, QUANTISATION, image.jpeg).effective)

    @classmethod
    def gaussian(cls, sigma: float) -> Self:
        """Create the task for a Gaussian blur of standard deviation `sigma` in pixels.

        Raises:
            InputError: `sigma` is not above 0, or is too large.
        """
        return cls(DeblurOptions(blur_sigma=sigma).known_kernel(), sigma)

    @classmethod
    def draw(cls, options: Any, size: Size, streams: Streams) -> dict[str, Tensor]:
        return {"kernel": drawn_kernel(options, streams)}

    @classmethod
    def from_draw(cls, options: Any, drawn: Mapping[str, Tensor]) -> Task:
        return cls(drawn["kernel"])

    @property
    def severity(self) -> tuple[str, float]:
        """("deblur-gaussian" or "deblur-motion", standard deviation of the kernel along an axis in pixels).

        Motion is any kernel that differs from the Gaussian of equal covariance. JPEG files are separate kinds.
        """
        crooked, spread = self._form()
        kind = "deblur-gaussian" if crooked < ALIKE else "deblur-motion"
        return kind if self.codec is None else f"{kind}-jpeg", max(spread, 0.1)

    @property
    def conditions(self) -> Mapping[str, float]:
        """`crooked`: total variation distance between the kernel and the Gaussian of its covariance, from 0.01 to 1."""
        return {"crooked": max(self._form()[0], 0.01)}

    def _form(self) -> tuple[float, float]:
        """Total variation between the kernel and the Gaussian of its covariance, and its standard deviation."""
        kernel = self.kernel.double() / self.kernel.double().sum()
        rows, columns = (torch.arange(n, dtype=torch.float64) for n in kernel.shape)
        dy = rows[:, None] - (kernel.sum(1) * rows).sum()
        dx = columns[None, :] - (kernel.sum(0) * columns).sum()
        yy, xx, xy = ((kernel * a).sum() for a in (dy * dy, dx * dx, dx * dy))
        spread = float(((xx + yy) / 2).sqrt())
        xx, yy = xx + 1e-3, yy + 1e-3  # a horizontal or vertical line has zero variance across it
        determinant = xx * yy - xy * xy
        gaussian = torch.exp(-0.5 * (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / determinant)
        return float((kernel - gaussian / gaussian.sum()).abs().sum()) / 2, spread

    def operator(self, channels: int, size: Size) -> LinearOperator:
        from invsolve.tasks.observed_blur import ObservedBlur

        if any(k > s for k, s in zip(self.kernel.shape, size, strict=True)):
            raise InputError(
                f"the blur of {self.kernel.shape[1]} x {self.kernel.shape[0]} pixels is larger than the image of "
                f"{size[1]} x {size[0]}"
            )
        return self.compressed(ObservedBlur((channels, *size), self.kernel))

    def measured_size(self, size: Size) -> Size:
        return size[0] - self.kernel.shape[0] // 2 * 2, size[1] - self.kernel.shape[1] // 2 * 2

    def visible(self, x: Tensor, size: Size) -> Tensor:
        top, left = self.kernel.shape[0] // 2, self.kernel.shape[1] // 2
        return x[..., top : top + size[0], left : left + size[1]]

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        return "blurred", y

    def record(self, prior: Any) -> dict[str, Any]:
        return {"blur_sigma": self.blur_sigma, **self.compression(prior)}
