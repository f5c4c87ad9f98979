"""The prior that travels in the package."""

from __future__ import annotations

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

__all__ = ["natural"]

WEIGHTS = Path(str(files("invsolve.priors"))) / "weights" / "natural.safetensors"


def natural(
    *,
    schedule: Schedule | str | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> NetworkPrior:
    """`natural`: a denoiser for colour photographs of any size, trained by `invsolve train denoiser`.

    Its card, with data, licences, training and limits, lies beside the weights (`natural.md`).

    Args:
        schedule: any; the DDPM table of 1000 steps if None.
        device: where it computes.
        options: fields of `Speed`, for example dtype=torch.bfloat16.
    """
    module = load_denoiser(WEIGHTS).to(device)
    speed = Speed.alone("natural", options)
    prior = NetworkPrior(module, "edm", as_schedule(schedule), (-1.0, 1.0), speed=speed, channels=3)
    prior.traits = card("natural").traits
    return prior
