"""A prepared restoration: the image that has been read, and everything that is decided without the prior."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from invsolve.core.operator import Operator
from invsolve.core.prior import Prior
from invsolve.core.solver import Solver
from invsolve.core.traits import Traits
from invsolve.io import Image
from invsolve.noise.estimated import NoiseEstimate
from invsolve.noise.sensor import SensorNoise
from invsolve.noise.stabilise import stabiliser_of
from invsolve.noise.white import QUANTISATION
from invsolve.restoration.calibration import Calibration, packaged_calibration
from invsolve.restoration.choice import Choice, chosen
from invsolve.restoration.memory import Plan
from invsolve.restoration.options import Options
from invsolve.tasks.base import Task
from invsolve.tasks.denoise import Denoise

__all__ = ["Job", "both"]

EQUAL_CHANNELS = 1.06
"""Noise level factor in denoising for noise that is equal in all channels, which a colour prior does not expect."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    """An image that has been read, with all decisions that do not need the prior.

    Attributes:
        options, task, plan: what to do, and how.
        choice: the solver, and how its settings were chosen.
        traits: traits of the prior.
        image: the input image: the degraded image, or the clean image of a simulation.
        y: the measurement [C, h, w].
        noise: the given or estimated noise.
        operator: forward operator from the solver's image to y; three channels, or one with a grey prior.
        truth: the clean image [C, H, W] of a simulation.
        record: information about the inputs.
        content: content of the image file, if the image is left unchanged.
    """

    options: Options
    task: Task
    choice: Choice
    traits: Traits
    plan: Plan
    image: Image
    y: Tensor
    noise: NoiseEstimate
    operator: Operator
    truth: Tensor | None
    record: Mapping[str, Any]
    content: bytes | None = None

    @property
    def solver(self) -> Solver:
        """The solver with its settings."""
        return self.choice.solver

    @cached_property
    def point(self) -> Solver | None:
        """The solver for the restored image, in addition to that for the samples; None if the sample mean is used.

        It is the prior's best solver for point estimates. It is used if the library chooses both solvers.
        """
        own = self.options
        left = own.solver is None and own.preset is None and own.presets is None
        if (own.samples or 1) < 2 or not left or self.traits.scope != "local":
            return None
        told = {"noise": self.likelihood_sigma, "conditions": self.task.conditions, "quality": own.quality}
        return chosen(own.section, self.traits, **told).solver

    @cached_property
    def calibration(self) -> tuple[Calibration | None, str]:
        """The calibration table for the intervals and its source; see `restoration.calibration`."""
        own = self.options
        name = own.prior_name
        solver = own.solver if isinstance(own.solver, str) else "" if own.solver is None else own.solver.name
        if own.calibration is not None:
            table = Calibration.read(own.calibration)
            if not table.matches(name, solver, own.settings):
                logger.warning(
                    "%s was calibrated with the prior %s%s: its intervals may be wrong here",
                    own.calibration,
                    table.prior,
                    f" and the solver {table.solver}" if table.solver else "",
                )
            return table, str(own.calibration)
        table = packaged_calibration(name, self.task.name)
        fits = table is not None and own.preset is None and own.presets is None and own.quality == "balanced"
        if not fits or table is None or not table.matches(name, solver, own.settings):
            return None, ""
        return table, "packaged"

    @property
    def measured(self) -> tuple[int, int]:
        """(height, width) of the measurement."""
        return self.y.shape[1], self.y.shape[2]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the solver's image."""
        return self.operator.in_shape[1], self.operator.in_shape[2]

    @cached_property
    def stabiliser(self) -> SensorNoise | None:
        """The variance-stabilising transform for denoising, if the noise grows with brightness; else None."""
        return stabiliser_of(self.noise) if self.task.name == Denoise.name else None

    def measurement(self, image: Tensor, channels: int) -> Tensor:
        """Convert a measured image to the form that the operator's output for `channels` is compared with."""
        return self.task.measurement(image if self.stabiliser is None else self.stabiliser.encode(image), channels)

    def seen(self, drawn: Tensor) -> Tensor:
        """Extract the restored images in [0, 1] from the solver's images, [..., C, H, W]."""
        shown = self.task.visible(drawn, self.measured)
        return self.noise.unbiased(shown if self.stabiliser is None else self.stabiliser.decode(shown)).clamp(0, 1)

    @property
    def _stabilised(self) -> float:
        """Noise level after stabilisation, in units of the level before."""
        return 1.0 if self.stabiliser is None else self.stabiliser.level / self.noise.unclipped

    @property
    def sigma(self) -> float:
        """Root mean square of the noise in `measurement`."""
        return self.noise.sigma * self._stabilised

    @property
    def channel_sigma(self) -> float:
        """Noise level in the likelihood of the solver's channels; at least that of rounding to 8 bits.

        The known level is for three channels; for one channel, it is the noise level of their mean.
        """
        careful = self.task.cautious or self.task.spares_detail
        level = self.noise.cautious if careful else self.noise.effective
        if self.task.spares_detail and not self.noise.sure:
            level = min(level, self.noise.low)
        equal = self.task.cautious and self.channels == 3 and self.noise.equal_channels
        level *= (EQUAL_CHANNELS if equal else 1.0) * self._stabilised
        return max(level * (self.channels / 3) ** 0.5, QUANTISATION)

    @property
    def channels(self) -> int:
        """Channels of the solver's image; with a colour prior, a grey image has three equal channels."""
        return self.operator.in_shape[0]

    @property
    def likelihood_sigma(self) -> float:
        """`channel_sigma` with an allowance for errors of the operator."""
        return self.task.noise_inflation * self.channel_sigma

    def identified(self, prior: Prior) -> Job:
        """Return the job with the parameters that its task estimates from y; the job itself if none are unknown."""
        task = self.task.identified(self.y, self.channel_sigma, prior)
        if task is self.task:
            return self
        return replace(self, task=task, operator=task.operator(self.channels, self.measured))


def both(known: Tensor | None, seen: Tensor | None) -> Tensor | None:
    """Return the mask of the pixels that are both measured and visible; None if all pixels are."""
    if known is None or seen is None:
        return seen if known is None else known
    return known & seen
