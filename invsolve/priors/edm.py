"""Networks of EDM, preconditioned, from files that `invsolve priors convert` has written.

    D(x; sigma) = c_skip x + c_out F(c_in x, ln(sigma) / 4),
    c_skip = s^2 / (sigma^2 + s^2), c_out = sigma s / sqrt(sigma^2 + s^2), c_in = 1 / sqrt(sigma^2 + s^2)

with s the standard deviation of the data (Karras et al. 2022, arXiv 2206.00364, table 1). The inner networks F are
those of deepinv, which keep the published names.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invsolve.core.checks import InputError
from invsolve.core.schedule import Schedule, VESchedule
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.network import NetworkPrior
from invsolve.priors.speed import Speed
from invsolve.priors.state import fill, read_header, read_weights
from invsolve.priors.tables import as_schedule

__all__ = ["FORMAT", "Preconditioned", "load_edm"]

FORMAT = "invsolve-edm-1"
_FIELDS = (
    "img_resolution", "in_channels", "out_channels", "label_dim", "augment_dim", "model_channels", "channel_mult",
    "channel_mult_emb", "num_blocks", "attn_resolutions",
)  # fmt: skip


class Preconditioned(nn.Module):
    """D(x; sigma) of a network F(z, c_noise, **conditions).

    Args:
        network: F.
        sigma_data: s.
    """

    def __init__(self, network: nn.Module, sigma_data: float = 0.5) -> None:
        super().__init__()
        self.network, self.sigma_data = network, float(sigma_data)

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor | int | None = None, **conditions: Any) -> Tensor:
        """The clean estimate, [N, C, H, W], for sigma [N] above 0."""
        if label is not None:
            conditions["label"] = label
        # A noise level below any in training says "clean" as well as 0 does, whose logarithm there is not.
        sigma = sigma[:, None, None, None].to(x.dtype).clamp_min(1e-5)
        total = sigma.square() + self.sigma_data**2
        out = self.network(x * total.rsqrt(), sigma.flatten().log() / 4, **conditions)
        return self.sigma_data**2 / total * x + sigma * self.sigma_data * total.rsqrt() * out.to(x.dtype)


class _Inner(nn.Module):
    """A network of deepinv's EDM ports with integer labels; `n_classes` stands for no class."""

    def __init__(self, network: Any, n_classes: int) -> None:
        super().__init__()
        self.network, self.n_classes = network, n_classes

    def forward(self, z: Tensor, c_noise: Tensor, label: Tensor | int | None = None) -> Tensor:
        labels = None
        if self.n_classes:
            index = torch.as_tensor(self.n_classes if label is None else label, device=z.device).expand(len(z))
            labels = F.one_hot(index, self.n_classes + 1)[:, : self.n_classes].to(z.dtype)
        return self.network.forward_unet(z, c_noise, class_labels=labels)


def load_edm(
    path: Path,
    *,
    device: str = "cpu",
    speed: Speed | None = None,
    schedule: Schedule | str | None = None,
) -> NetworkPrior:
    """The prior in a converted file, in [-1, 1] units.

    Args:
        path: the file.
        device, speed: where and how it computes.
        schedule: any, since such a network is given the noise level; sigma from 0.002 to 80 with rho 7 if None.

    Raises:
        InputError: a damaged file, or an architecture that is not supported.
    """
    speed = speed or Speed()
    status = path.stat()
    stamp = (status.st_mtime_ns, status.st_size)
    module = _network(str(path.resolve()), stamp, device, speed.channels_last, speed.checkpointing)
    config = _config(path)
    inner = config["inner"]
    n_classes, side, channels = int(inner.get("label_dim", 0)), inner["img_resolution"], inner["in_channels"]
    settings: dict[str, Any] = {
        "parametrization": "edm",
        "schedule": VESchedule() if schedule is None else as_schedule(schedule),
        "shape": (channels, side, side),
        "speed": speed,
    }
    if not n_classes:
        return NetworkPrior(module, **settings)
    return ConditionalPrior(module, n_classes, n_classes if inner.get("label_dropout", 0) else None, **settings)


@lru_cache(maxsize=2)
def _network(path: str, stamp: tuple[int, int], device: str, *layout: bool) -> Preconditioned:
    weights, config = read_weights(path), _config(Path(path))
    inner = config["inner"]
    try:
        with torch.device("meta"):
            network = _build(config["class"], inner)
    except (TypeError, KeyError, ZeroDivisionError) as error:
        raise InputError(f"{path} has a configuration that makes no network: {error}") from error
    fill(network, weights.tensors, path, device=device)
    return Preconditioned(_Inner(network, int(inner.get("label_dim", 0))), config["outer"].get("sigma_data", 0.5))


def _config(path: Path) -> dict[str, Any]:
    try:
        return json.loads(read_header(path)["config"])
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} is no converted EDM network: write it with invsolve priors convert") from error


def _build(kind: str, inner: dict[str, Any]) -> nn.Module:
    from deepinv.models import ADMUNet, NCSNpp

    settings = {name: inner[name] for name in _FIELDS if name in inner}
    match kind:
        case "SongUNet":
            standard = inner.get("encoder_type", "standard") == "standard"
            settings.setdefault("augment_dim", 0)
            return NCSNpp(model_type="ddpm" if standard else "ncsn", pretrained=None, **settings)
        case "DhariwalUNet":
            return ADMUNet(pretrained=None, **settings)
    raise InputError(f"EDM networks of the class {kind} are not supported; SongUNet and DhariwalUNet are")
