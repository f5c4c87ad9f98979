"""The base class of restoration tasks: the degradation of an image, its user options, and its simulation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from invsolve.core.lazy import torch
from invsolve.io.inputs import without_hidden_colours

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.core.operator import Operator
    from invsolve.core.prior import Prior
    from invsolve.core.rng import Rng
    from invsolve.core.unknowns import Unknowns
    from invsolve.io import Image
    from invsolve.noise.estimated import NoiseEstimate

__all__ = ["Size", "Streams", "Task"]

Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels."""

Streams: TypeAlias = "Callable[[str], Rng]"
"""Random number generators of a simulation, by the name of what is drawn: "mask", "kernel", ..."""


class Task(ABC):
    """The degradation of an image. Sizes are (height, width); images are [C, H, W] in [0, 1].

    A task is a frozen dataclass in its own file. Fields created with `invsolve.core.options.option` are its options on
    the command line, in Python, in leaderboard suites and in `invsolve tune`. A task that must first read or draw
    something (a mask, a kernel) has a separate dataclass of options, and is created from it by `from_options` and
    `from_draw`.

    The solver's image, which the operator degrades, may be larger than the restored image: see `visible`.
    """

    name: ClassVar[str]
    options: ClassVar[type | None] = None
    """Dataclass of the user options; the task itself if None."""
    suite_options: ClassVar[type | None] = None
    """Dataclass of the options used by leaderboard suites and `invsolve tune` to draw the task; `options` if None."""
    simulated_noise: ClassVar[float] = 0.01
    """Standard deviation of the noise that a simulation adds by default."""
    noise_inflation: ClassVar[float] = 1.0
    """Factor on the noise level in the likelihood, to account for errors of the operator."""
    spares_detail: ClassVar[bool] = False
    """Like `cautious`; in addition, an unsure noise estimate is limited to its lower bound, as it may be detail."""
    estimates_kernel: ClassVar[bool] = False
    """Whether a blur kernel is estimated from the image; it is then saved beside the restored image."""
    cautious: ClassVar[bool] = False
    """Whether a noise level that is too low does less harm than one too high; an unsure estimate is then lowered."""
    fills_holes: ClassVar[bool] = False
    """Whether pixels of the image may be NaN (missing); `from_options` then detects them."""
    tuning: ClassVar[Mapping[str, Sequence[tuple[float, Mapping[str, Any]]]]] = {}
    """The noise levels and suite options that `invsolve tune` draws for each section of the preset tables."""

    @classmethod
    def option_type(cls) -> type:
        """The dataclass of the user options."""
        return cls.options or cls

    @classmethod
    def suite_type(cls) -> type:
        """The dataclass of the suite options."""
        return cls.suite_options or cls.option_type()

    @classmethod
    def section(cls, options: Any) -> str:
        """The section of the preset tables for user or suite options."""
        return cls.name

    @classmethod
    def from_options(cls, options: Any, image: Image, simulation: Streams | None) -> Self:
        """Create the task for an image.

        Args:
            options: an `option_type`.
            image: the degraded image; in a simulation, a clean image.
            simulation: random number generators of a simulation; None for a real measurement.

        Raises:
            InputError: the options contradict each other or do not fit the image.
        """
        return options

    @classmethod
    def draw(cls, options: Any, size: Size, streams: Streams) -> dict[str, Tensor]:
        """Draw the random parts of the task for an image of `size`; they are stored with the measurement.

        Args:
            options: a `suite_type`.
            size: size of the clean image.
            streams: random number generators.
        """
        return {}

    @classmethod
    def from_draw(cls, options: Any, drawn: Mapping[str, Tensor]) -> Task:
        """Create the task from suite options and the result of `draw`."""
        return options

    @classmethod
    def needs(cls, options: Any) -> str:
        """Describe what is missing on this machine to run the suite options; "" if nothing is missing."""
        return ""

    @property
    def severity(self) -> tuple[str, float]:
        """The kind of degradation and its strength (above 0); calibrations interpolate in the strength."""
        return self.name, 1.0

    def joint(self) -> Task:
        """Return the form of the task in which the solver estimates the unknown parameters jointly with the image."""
        return self

    @abstractmethod
    def operator(self, channels: int, size: Size) -> Operator:
        """Return the forward operator whose measurements have `size`."""

    @property
    def unknowns(self) -> Unknowns | None:
        """Parameters of the operator that a solver estimates jointly with the image."""
        return None

    @property
    def noise_level(self) -> float | None:
        """Standard deviation of the noise if the task defines it; None if it is estimated or given."""
        return None

    def observed(self, image: Image) -> Tensor:
        """Return the measurement [C, h, w] stored in an image: its pixels, unless overridden."""
        return without_hidden_colours(image)

    def noise_sample(self, y: Tensor) -> Tensor:
        """Return pixels [C, h, w] from which the noise of the measurement can be estimated: y unless overridden."""
        return y

    def measurement(self, y: Tensor, channels: int) -> Tensor:
        """Return the data that the operator's output for `channels` is compared with: y unless overridden."""
        return y.expand(channels, -1, -1)

    @property
    def conditions(self) -> Mapping[str, float]:
        """Conditions besides the noise that the best solver settings depend on, by their names in the preset tables."""
        return {}

    @abstractmethod
    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        """Return the name and result [C, *restored size] of a classical method without a prior, for comparison."""

    def restored_size(self, size: Size) -> Size:
        """Return the size of the restored image for a measurement of `size`."""
        return size

    def measured_size(self, size: Size) -> Size:
        """Return the size of the simulated measurement of a clean image of `size`."""
        return size

    def visible(self, x: Tensor, size: Size) -> Tensor:
        """Extract the restored image [..., *restored size] from the solver's image, for a measurement of `size`."""
        return x

    def degrade(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noise-free measurement of a clean image, and the part of the image that a restoration shows."""
        size = self.measured_size((clean.shape[1], clean.shape[2]))
        operator = self.operator(len(clean), size)
        _, height, width = operator.in_shape
        scene = clean[:, :height, :width]
        scene = torch.nn.functional.pad(scene, (0, width - scene.shape[2], 0, height - scene.shape[1]))
        return operator(scene[None])[0], self.visible(scene, size)

    def noisy(self, clean: Tensor, level: float, rng: Rng) -> Tensor:
        """Add white noise of standard deviation `level` to a measurement, without rounding or clipping.

        Unknown pixels are 0.
        """
        y = clean + level * rng.normal(clean[None])[0]
        known = self.known(y)
        return y if known is None else torch.where(known, y, 0.0)

    def shown(self, y: Tensor) -> Tensor:
        """Return the measurement as an image of the restored size, [C, *restored size], for display."""
        return y

    def known(self, y: Tensor) -> Tensor | None:
        """Return the mask of measured pixels of `y`, bool [H, W]; None if all were measured."""
        return None

    def opacity(self, alpha: Tensor) -> Tensor | None:
        """Return the opacity [1, H, W] of the restored image, given that of the degraded image."""
        return alpha

    @property
    def estimated_kernel(self) -> Tensor | None:
        """The estimated blur kernel [h, w]; None if none is estimated."""
        return None

    def identified(self, y: Tensor, sigma: float, prior: Prior | None) -> Self:
        """Return the task with all parameters that can be estimated from the measurement.

        Args:
            y: measurement [C, h, w].
            sigma: standard deviation of its noise.
            prior: the prior, or None to estimate without a prior.
        """
        return self

    @property
    def interpolates(self) -> bool:
        """Whether the restored image is `interpolated` instead of solved for, because the data are insufficient."""
        return False

    def interpolated(self, y: Tensor) -> Tensor:
        """Return the restored image [C, *restored size] without a solver: that of `baseline` unless overridden."""
        return self.baseline(y)[1]

    def consistent(self, x: Tensor, y: Tensor, noise: NoiseEstimate) -> Tensor:
        """Constrain a restored image to what is certain from the measurement: x itself unless overridden.

        Args:
            x: restored image [C, *restored size] in [0, 1].
            y: measurement [C, h, w].
            noise: noise of the measurement.
        """
        return x

    def aligned(self, restored: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return the parts of both images to compare: the whole images, unless the position is ambiguous."""
        return restored, truth

    def record(self, prior: Prior) -> dict[str, Any]:
        """Return the entries about the task, besides its name, for the record of a restoration."""
        return {}
