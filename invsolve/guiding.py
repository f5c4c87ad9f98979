"""Guided sampling by a class or a reward: build the problem and the solver, and draw a sheet of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.core.prior import Prior
from invsolve.core.problem import Problem
from invsolve.core.solver import Solver

__all__ = ["Guide", "guided", "sheet"]


@dataclass(frozen=True)
class Guide:
    """The options of guided sampling; see `invsolve guide`.

    Args:
        prior: name of the prior.
        label: the class to sample; None if a reward is given.
        reward: "module:function", a function from images [N, C, H, W] in [0, 1] to rewards [N].
        temperature: temperature of the reward.
        scale: scale of the gradient, such as "adaptive:30".
        weight: weight of classifier-free guidance, used instead of a scale, such as "c2fg:1.5,0.6".
        classifier: "module:function", a noisy classifier (x, sigma) -> logits.
        steps: number of solver steps.
        eta: 0 is deterministic, 1 is ancestral.
    """

    prior: str = "digits"
    label: int | None = None
    reward: str | None = None
    temperature: float = 1.0
    scale: str | None = None
    weight: str | None = None
    classifier: str | None = None
    steps: int = 100
    eta: float = 1.0


def guided(guide: Guide, prior: Prior) -> tuple[Problem, Solver]:
    """Build the problem and the solver for a guide.

    Args:
        guide: the guidance options.
        prior: the loaded prior of that name.

    Raises:
        InputError: the options do not go together, or the prior cannot be guided in this way.
        CapabilityError: a class is given, and the prior takes none.
    """
    from invsolve import costs, solvers
    from invsolve.core.registry import load_attribute
    from invsolve.solvers.steps.scales import parse_scale

    if prior.shape is None:
        raise InputError(
            f"the prior {guide.prior} has no fixed image size: use a prior that has one, for example digits"
        )
    if guide.classifier is not None and (guide.scale is None or guide.reward is not None or guide.weight is not None):
        raise InputError("--classifier steers towards a class with a scale: give --class and --scale, and no --weight")
    told: dict[str, Any] = {"n_steps": guide.steps, "eta": guide.eta}
    if guide.reward is not None:
        if guide.weight is not None:
            raise InputError("--weight applies to classes only: use --scale for a reward")
        cost = costs.RewardCost(load_attribute(guide.reward), guide.temperature)
        return Problem(prior, cost), solvers.Guidance(parse_scale(guide.scale or "fixed:1"), **told)
    if guide.weight is not None or guide.scale is None:
        return _classifier_free(guide, prior), solvers.DDIM(**told)
    if guide.label is None:
        raise InputError("give a class or a reward")
    logits, count = _classifier(guide, prior)
    cost = costs.ClassifierCost(logits, guide.label, count, conditional=True)
    return Problem(prior, cost), solvers.Guidance(parse_scale(guide.scale), at="noisy", **told)


def _classifier_free(guide: Guide, prior: Prior) -> Problem:
    from invsolve.priors.conditional import ConditionalPrior
    from invsolve.priors.guidance.clocks import step_clock
    from invsolve.priors.guidance.combinations import classifier_free
    from invsolve.priors.guidance.named import parse_weight, published_weights

    if not isinstance(prior, ConditionalPrior) or prior.null is None:
        prior.given(label=guide.label)  # raises the error of an unconditional prior
        raise InputError("classifier-free guidance needs a prior trained without labels as well: use --scale")
    prior.given(label=guide.label)
    weight = parse_weight(guide.weight or "1")
    preset = published_weights().get((guide.weight or "").removeprefix("c2fg:"))
    steps = preset is not None and preset.clock == "step"
    clock = step_clock(tuple(prior.schedule.grid(guide.steps))) if steps else None
    labels = {"condition": {"label": guide.label}, "null": {"label": prior.null}}
    return Problem(classifier_free(prior, weight, clock=clock, **labels))


def _classifier(guide: Guide, prior: Prior) -> tuple[Any, int]:
    """The classifier of noisy images and its number of classes."""
    from invsolve.core.registry import load_attribute

    if guide.classifier is not None:
        classifier = load_attribute(guide.classifier)
        assert prior.shape is not None
        probe = torch.full((1, *prior.shape), 0.5, device=prior.device), torch.full((1,), 0.1, device=prior.device)
        return classifier, int(classifier(*probe).shape[1])
    if guide.prior == "digits":
        from invsolve.priors.loading.digits import digits_classifier

        return digits_classifier(prior.device).of_images, 10
    raise InputError(f"--scale guides with a classifier, but {guide.prior} has none: give --classifier")


def sheet(images: Tensor) -> Any:
    """Arrange images [N, C, H, W] in [0, 1] in a grid as a Pillow image; small ones are enlarged without smoothing."""
    from PIL import Image

    n, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    cells = torch.zeros(rows * columns, channels, height, width)
    cells[:n] = images
    grid = cells.view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    pixels = (grid.reshape(rows * height, columns * width, channels) * 255).round().byte().numpy()
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    factor = max(1, 512 // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
