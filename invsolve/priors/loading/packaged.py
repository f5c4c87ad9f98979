"""The priors for photographs that are included in the package."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from invsolve.core.schedule import Schedule
from invsolve.priors.loading.beta_tables import as_schedule
from invsolve.priors.loading.cards import card
from invsolve.priors.network import NetworkPrior
from invsolve.priors.networks.execution import Speed
from invsolve.priors.networks.unet import load_denoiser

__all__ = ["natural", "natural_deep"]

WEIGHTS = Path(str(files("invsolve.priors"))) / "weights"


def _packaged(
    name: str,
    *,
    schedule: Schedule | str | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> NetworkPrior:
    """A denoiser for colour photographs of any size, trained by `invsolve train denoiser`.

    Its card, with data, licences, training and limits, is in the folder of the weights (`natural.md`,
    `natural-deep.md`).

    Args:
        name: name of the weights and the card.
        schedule: any schedule; the DDPM table of 1000 steps if None.
        device: device of the network.
        options: fields of `Speed`, for example dtype=torch.bfloat16.
    """
    module = load_denoiser(WEIGHTS / f"{name}.safetensors").to(device)
    speed = Speed.alone(name, options)
    prior = NetworkPrior(module, "edm", as_schedule(schedule), (-1.0, 1.0), speed=speed, channels=3)
    prior.traits = card(name).traits
    return prior


natural = partial(_packaged, "natural")
natural_deep = partial(_packaged, "natural-deep")
