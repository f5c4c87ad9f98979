"""Priors from denoisers of deepinv, which take images in [0, 1] and a noise level in the same units."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.core.checks import InputError, require
from invsolve.core.schedule import Schedule
from invsolve.priors.loading.beta_tables import as_schedule
from invsolve.priors.loading.hub import is_offline
from invsolve.priors.loading.weights import fill, read_weights
from invsolve.priors.network import NetworkPrior
from invsolve.priors.networks.execution import Speed

__all__ = ["from_deepinv", "load_deepinv", "tensors_alone"]


UNITS: dict[str, tuple[str, str]] = dict.fromkeys(("ADMUNet", "NCSNpp"), ("_was_trained_on_minus_one_one", "pixel_std"))
"""Classes of deepinv whose weights exist for two value ranges, and the arguments that specify the range."""

_SAFE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class _Denoiser(nn.Module):
    """module(x, sigma) of a deepinv denoiser."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.network(x, sigma)


def from_deepinv(
    denoiser: nn.Module, *, schedule: Schedule | str | None = None, speed: Speed | None = None, shape: Any = None
) -> NetworkPrior:
    """Make a prior of images in [0, 1] from a deepinv denoiser: D(x_t / alpha, sigma / alpha) estimates x0.

    The quality of the prior depends on the denoiser at the large noise levels that a sampler visits. DRUNet and similar
    denoisers were trained up to about 0.2; they suit plug-and-play solvers rather than sampling.

    Args:
        denoiser: module called as denoiser(x [N, C, H, W], sigma [N]).
        schedule: any schedule; the linear DDPM table if None.
        speed: how the network is run.
        shape: shape of one image, if the denoiser has a fixed size.
    """
    return NetworkPrior(_Denoiser(denoiser), "edm", as_schedule(schedule), (0.0, 1.0), shape, speed=speed)


@contextmanager
def tensors_alone() -> Iterator[None]:
    """Let torch read only tensors from files, for every caller: deepinv's own downloads would allow everything."""
    before = os.environ.get(_SAFE)
    os.environ[_SAFE] = "1"
    try:
        yield
    finally:
        os.environ.pop(_SAFE)
        if before is not None:
            os.environ[_SAFE] = before


def load_deepinv(
    name: str,
    *,
    weights: str | Path | None = None,
    device: torch.device | str = "cpu",
    schedule: Schedule | str | None = None,
    speed: Speed | None = None,
    **settings: Any,
) -> NetworkPrior:
    """Load a denoiser of deepinv by its class.

    Args:
        name: the class in deepinv.models, for example "DRUNet".
        weights: a file with its state dict, loaded strictly; deepinv's own download if None.
        device, schedule, speed: see `priors.load`.
        settings: arguments of the class, for example in_channels=1.

    Raises:
        InputError: unknown denoiser, or weights that do not match.
    """
    require("deepinv", "a denoiser of deepinv")
    import deepinv.models

    kind = getattr(deepinv.models, name, None)
    if not (isinstance(kind, type) and issubclass(kind, deepinv.models.base.Denoiser)):
        raise InputError(f"deepinv has no denoiser {name!r}")
    if weights is None and settings.get("pretrained", "download") is not None and is_offline(None):
        raise InputError(
            f"deepinv would download the weights of {name}, but network access is disabled: give weights=FILE"
        )
    lacking = [option for option in UNITS.get(name, ()) if option not in settings]
    if weights is not None and lacking:
        raise InputError(
            f"a weight file of deepinv's {name} does not state the pixel range of its training: give "
            f"{' and '.join(lacking)} (True and 0.5 for the files that deepinv downloads, which take [-1, 1])"
        )
    try:
        with tensors_alone():
            network = kind(**settings) if weights is None else kind(**{**settings, "pretrained": None})
    except (TypeError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise InputError(f"deepinv's {name} cannot be created: {error}") from error
    if weights is not None:
        fill(network, read_weights(weights).tensors, weights, device=str(device))
    return from_deepinv(network.to(device), schedule=schedule, speed=speed)
