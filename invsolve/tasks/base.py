"""What a restoration task is: how an image was degraded, what a user says about it, and how it is simulated."""

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
"""Random numbers for each thing that a simulation draws, by its name: "mask", "kernel", ..."""


class Task(ABC):
    """How an image was degraded. Sizes are (height, width); images [C, H, W] in [0, 1].

    A task is a frozen dataclass in a file of its own. Its fields that are made by `invsolve.core.options.option` are
    what a user says about it, on the command line, in Python, in suites of the leaderboard and in `invsolve tune`. A
    task that has to read or draw something first (a mask, a kernel) has a dataclass of options beside it, and makes
    itself of that in `from_options` and `from_draw`.

    The image that the solver works on, which the operator degrades, may be larger than the restored one: see `visible`.
    """

    name: ClassVar[str]
    options: ClassVar[type | None] = None
    """Dataclass of what a user says about the task; the task itself if None."""
    suite_options: ClassVar[type | None] = None
    """Dataclass of how suites of the leaderboard and `invsolve tune` draw it; `options` if None."""
    simulated_noise: ClassVar[float] = 0.01
    """Standard deviation of the noise that a simulation adds where none is asked for."""
    noise_inflation: ClassVar[float] = 1.0
    """Factor on the noise level in the likelihood that allows for errors of the operator itself."""
    spares_detail: ClassVar[bool] = False
    """`cautious`, and the lower bound of an estimated noise level counts where it is not sure: it may be detail."""
    estimates_kernel: ClassVar[bool] = False
    """Whether a blur kernel is estimated from the image: it is then written beside the restoration."""
    cautious: ClassVar[bool] = False
    """Whether too little noise in the likelihood does less harm than too much: an unsure estimate counts with less."""
    fills_holes: ClassVar[bool] = False
    """Whether pixels of the image may be NaN: they are missing, and its `from_options` looks for them."""
    tuning: ClassVar[Mapping[str, Sequence[tuple[float, Mapping[str, Any]]]]] = {}
    """What `invsolve tune` draws for each section of the preset tables: noise levels and options of a suite."""

    # Made from what a user says

    @classmethod
    def option_type(cls) -> type:
        """The dataclass of what a user says."""
        return cls.options or cls

    @classmethod
    def suite_type(cls) -> type:
        """The dataclass of what a suite says."""
        return cls.suite_options or cls.option_type()

    @classmethod
    def section(cls, options: Any) -> str:
        """The section of the preset tables for options of either kind."""
        return cls.name

    @classmethod
    def from_options(cls, options: Any, image: Image, simulation: Streams | None) -> Self:
        """The task for an image.

        Args:
            options: an `option_type`.
            image: the degraded image; a clean one if this is a simulation.
            simulation: random numbers of a simulation; None where the image is a real measurement.

        Raises:
            InputError: the options do not fit each other or the image.
        """
        return options

    # Drawn by suites

    @classmethod
    def draw(cls, options: Any, size: Size, streams: Streams) -> dict[str, Tensor]:
        """What is random about the task, drawn for an image of `size`; stored with its measurement.

        Args:
            options: a `suite_type`.
            size: of the clean image.
            streams: random numbers.
        """
        return {}

    @classmethod
    def from_draw(cls, options: Any, drawn: Mapping[str, Tensor]) -> Task:
        """The task for a suite's options and what was drawn."""
        return options

    @classmethod
    def needs(cls, options: Any) -> str:
        """What is missing on this machine to run a suite's options, in words; "" where everything is there."""
        return ""

    # The degradation

    @property
    def severity(self) -> tuple[str, float]:
        """The kind of degradation and how strong it is within its kind, above 0: calibrations interpolate in it."""
        return self.name, 1.0

    def joint(self) -> Task:
        """The task in the form in which the solver finds what is unknown together with the image."""
        return self

    @abstractmethod
    def operator(self, channels: int, size: Size) -> Operator:
        """The degradation whose measurements are of `size`."""

    @property
    def unknowns(self) -> Unknowns | None:
        """Parameters of the operator that a solver estimates with the image."""
        return None

    @property
    def noise_level(self) -> float | None:
        """Standard deviation of the noise where the task itself tells it; None where it is estimated or given."""
        return None

    def observed(self, image: Image) -> Tensor:
        """The measurement [C, h, w] that an image holds: its pixels, unless overridden."""
        return without_hidden_colours(image)

    def noise_sample(self, y: Tensor) -> Tensor:
        """Pixels [C, h, w] with the noise of the measurement, to estimate it from: y itself unless overridden."""
        return y

    def measurement(self, y: Tensor, channels: int) -> Tensor:
        """What the operator's output for `channels` is compared with: y itself unless overridden."""
        return y.expand(channels, -1, -1)

    @property
    def conditions(self) -> Mapping[str, float]:
        """What the best settings of a solver depend on beside the noise, by the names that preset tables use."""
        return {}

    @abstractmethod
    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        """Name and result [C, *restored size] of a classical method without a prior, to compare with."""

    def restored_size(self, size: Size) -> Size:
        """The size of the restored image for a measurement of `size`."""
        return size

    def measured_size(self, size: Size) -> Size:
        """The size of the measurement that a simulation makes of a clean image of `size`."""
        return size

    def visible(self, x: Tensor, size: Size) -> Tensor:
        """The restored image [..., *restored size] within the solver's image, for a measurement of `size`."""
        return x

    def degrade(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """The measurement of a clean image, without noise, and the part of the image that a restoration shows."""
        size = self.measured_size((clean.shape[1], clean.shape[2]))
        operator = self.operator(len(clean), size)
        _, height, width = operator.in_shape
        scene = clean[:, :height, :width]
        scene = torch.nn.functional.pad(scene, (0, width - scene.shape[2], 0, height - scene.shape[1]))
        return operator(scene[None])[0], self.visible(scene, size)

    def noisy(self, clean: Tensor, level: float, rng: Rng) -> Tensor:
        """The measurement with white noise of standard deviation `level`, neither rounded nor clipped; 0 if unknown."""
        y = clean + level * rng.normal(clean[None])[0]
        known = self.known(y)
        return y if known is None else torch.where(known, y, 0.0)

    def shown(self, y: Tensor) -> Tensor:
        """The measurement as an image of the restored size, [C, *restored size], to look at."""
        return y

    def known(self, y: Tensor) -> Tensor | None:
        """Pixels of `y` that were measured, bool [H, W]; None if all were."""
        return None

    def opacity(self, alpha: Tensor) -> Tensor | None:
        """Opacity [1, H, W] of the restored image, given that of the degraded one."""
        return alpha

    @property
    def estimated_kernel(self) -> Tensor | None:
        """The blur kernel [h, w] that was estimated; None where none is."""
        return None

    def identified(self, y: Tensor, sigma: float, prior: Prior | None) -> Self:
        """The task with everything known that can be estimated from the measurement.

        Args:
            y: measurement [C, h, w].
            sigma: standard deviation of its noise.
            prior: None where the estimate has to do without.
        """
        return self

    @property
    def interpolates(self) -> bool:
        """Whether the restored image is `interpolated`, without a solver, as too little is known for one."""
        return False

    def interpolated(self, y: Tensor) -> Tensor:
        """The restored image [C, *restored size] without a solver: that of `baseline` unless overridden."""
        return self.baseline(y)[1]

    def consistent(self, x: Tensor, y: Tensor, noise: NoiseEstimate) -> Tensor:
        """A restored image kept to what the measurement surely says: x itself unless overridden.

        Args:
            x: restored image [C, *restored size] in [0, 1].
            y: measurement [C, h, w].
            noise: of it.
        """
        return x

    def aligned(self, restored: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """The parts of both images that are compared: all of them, unless the position is ambiguous."""
        return restored, truth

    def record(self, prior: Prior) -> dict[str, Any]:
        """What the record of a restoration says about the task beside its name."""
        return {}
