"""The priors for photographs that come with the package."""

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

__all__ = ["natural", "natural_deep"]

WEIGHTS = Path(str(files("invsolve.priors"))) / "weights"


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
    return _loaded("natural", schedule, device, options)


def natural_deep(
    *,
    schedule: Schedule | str | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> NetworkPrior:
    """`natural-deep`: `natural` with more residual blocks, trained further on the same photographs.

    It is better at every noise level and slower; its card (`natural-deep.md`) says by how much. Intervals of posterior
    samples are not calibrated for it.

    Args:
        schedule: any; the DDPM table of 1000 steps if None.
        device: where it computes.
        options: fields of `Speed`, for example dtype=torch.bfloat16.
    """
    return _loaded("natural-deep", schedule, device, options)


def _loaded(
    name: str, schedule: Schedule | str | None, device: torch.device | str, options: dict[str, Any]
) -> NetworkPrior:
    module = load_denoiser(WEIGHTS / f"{name}.safetensors").to(device)
    prior = NetworkPrior(
        module, "edm", as_schedule(schedule), (-1.0, 1.0), speed=Speed.alone(name, options), channels=3
    )
    prior.traits = card(name).traits
    return prior
