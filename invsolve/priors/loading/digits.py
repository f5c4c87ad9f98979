"""The class-conditional prior of handwritten digits and the classifier, both included in the package."""

from __future__ import annotations

from typing import Any

import torch

from invsolve.core.schedule import Schedule, VPSchedule
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.loading.beta_tables import as_schedule
from invsolve.priors.loading.packaged import WEIGHTS
from invsolve.priors.networks.classifier import NoisyClassifier, load_classifier
from invsolve.priors.networks.execution import Speed
from invsolve.priors.networks.unet import LabelledDenoiser, load_denoiser

__all__ = ["digits", "digits_classifier"]


def digits(
    *, schedule: Schedule | str | None = None, device: torch.device | str = "cpu", **options: Any
) -> ConditionalPrior:
    """`digits`: handwritten digits of 16 x 16 grey pixels, without label, or of one class with `given(label=0 ... 9)`.

    Trained by `invsolve train denoiser --labels`; its card is in the folder of the weights (`digits.md`). The prior is
    for experiments with labels and guidance, not for real images.

    Args:
        schedule: any schedule; VPSchedule() if None.
        device: device of the network.
        options: fields of `Speed`.
    """
    module = load_denoiser(WEIGHTS / "digits.safetensors", device, LabelledDenoiser)
    own = VPSchedule() if schedule is None else as_schedule(schedule)
    settings: dict[str, Any] = {"parametrization": "edm", "schedule": own, "shape": (1, 16, 16)}
    return ConditionalPrior(module, 10, null=10, **settings, speed=Speed.alone("digits", options))


def digits_classifier(device: torch.device | str = "cpu") -> NoisyClassifier:
    """The classifier of noisy digits: `ClassifierCost(digits_classifier().of_images, y, 10, conditional=True)`."""
    return load_classifier(WEIGHTS / "digits-classifier.safetensors", device)
