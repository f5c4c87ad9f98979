"""Preconditioned networks of EDM and EDM2, from files written by `invsolve priors convert`.

Karras et al. 2022, arXiv 2206.00364, and 2024, arXiv 2312.02696. The inner networks of EDM are those of deepinv, which
keep the published names; the inner network of EDM2 is `invsolve.priors.networks.edm2`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invsolve.core.boundary import foreign, number, parse_json, whole_number
from invsolve.core.checks import InputError, require
from invsolve.core.prior import Prior
from invsolve.core.schedule import Schedule, VESchedule, VPSchedule
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.loading.beta_tables import as_schedule
from invsolve.priors.loading.weights import Weights, blank, file_stamp, fill, read_header, read_weights
from invsolve.priors.network import NetworkPrior
from invsolve.priors.networks.edm2 import EDM2, EDM2Config
from invsolve.priors.networks.execution import Speed
from invsolve.priors.networks.preconditioning import EDMScaling, IDDPMScaling, Preconditioned, VEScaling, VPScaling

__all__ = ["FORMAT", "PRECONDITIONERS", "load_edm"]

FORMAT = "invsolve-edm-1"
_FIELDS = (
    "img_resolution", "in_channels", "out_channels", "label_dim", "augment_dim", "model_channels", "channel_mult",
    "channel_mult_emb", "num_blocks", "attn_resolutions",
)  # fmt: skip

_LARGEST = {
    "img_resolution": 1 << 16, "in_channels": 1024, "out_channels": 1024, "img_channels": 1024, "label_dim": 1 << 20,
    "augment_dim": 1024, "model_channels": 1 << 14, "channel_mult": 64, "channel_mult_emb": 64,
    "channel_mult_noise": 64, "num_blocks": 64, "attn_resolutions": 1 << 16, "channels_per_head": 1 << 14,
}  # fmt: skip
"""The largest accepted values of a network's arguments, so that building it neither hangs nor fills the memory."""


class _Kind(NamedTuple):
    """A preconditioner class of a published file: its scaling, and its training schedule."""

    scaling: Callable[[Mapping[str, Any]], nn.Module]
    schedule: Callable[[Mapping[str, Any]], Schedule]


def _number(outer: Mapping[str, Any], name: str, default: float) -> float:
    return number(outer, name, default, low=1e-9, high=1e9, what="the preconditioning")


def _edm(outer: Mapping[str, Any]) -> nn.Module:
    return EDMScaling(_number(outer, "sigma_data", 0.5))


def _vp(outer: Mapping[str, Any]) -> nn.Module:
    return VPScaling(_number(outer, "beta_d", 19.9), _number(outer, "beta_min", 0.1), _steps(outer))


def _vp_schedule(outer: Mapping[str, Any]) -> Schedule:
    first = _number(outer, "beta_min", 0.1)
    return VPSchedule(first, first + _number(outer, "beta_d", 19.9))


def _iddpm(outer: Mapping[str, Any]) -> nn.Module:
    return IDDPMScaling(_steps(outer), _number(outer, "C_1", 0.001), _number(outer, "C_2", 0.008))


def _steps(outer: Mapping[str, Any]) -> int:
    return whole_number(outer, "M", 1000, low=1, high=100_000, what="the preconditioning")


PRECONDITIONERS: Mapping[str, _Kind] = {
    "EDMPrecond": _Kind(_edm, lambda outer: VESchedule()),
    "VPPrecond": _Kind(_vp, _vp_schedule),
    "VEPrecond": _Kind(
        lambda outer: VEScaling(),
        lambda outer: VESchedule(_number(outer, "sigma_max", 100.0), _number(outer, "sigma_min", 0.02)),
    ),
    "iDDPMPrecond": _Kind(_iddpm, lambda outer: VESchedule()),
    "Precond": _Kind(_edm, lambda outer: VESchedule()),
}
"""Preconditioners by the names of the published classes; the last one is that of EDM2."""


class _Inner(nn.Module):
    """A network with integer labels; the label `n_classes` means no class."""

    def __init__(self, network: nn.Module, n_classes: int) -> None:
        super().__init__()
        self.network, self.n_classes = network, n_classes
        # The forward of deepinv's networks includes a preconditioning.
        self._call: Callable[..., Tensor] = network if isinstance(network, EDM2) else getattr(network, "forward_unet")  # noqa: B009

    def forward(self, z: Tensor, c_noise: Tensor, label: Tensor | int | None = None) -> Tensor:
        if not self.n_classes:
            return self._call(z, c_noise, None)
        index = torch.as_tensor(self.n_classes if label is None else label, device=z.device).expand(len(z))
        return self._call(z, c_noise, F.one_hot(index, self.n_classes + 1)[:, : self.n_classes].to(z.dtype))


def load_edm(
    path: Path,
    *,
    device: str = "cpu",
    speed: Speed | None = None,
    schedule: Schedule | str | None = None,
    vae: str | Path | None = None,
) -> Prior:
    """Load the prior in a converted file, in [-1, 1] units; for EDM2 networks of latents the images are in [0, 1].

    Args:
        path: the converted file.
        device, speed: where and how the network is run.
        schedule: any schedule, because the network receives the noise level. If None: the training schedule for VP and
            VE networks, sigma from 0.002 to 80 with rho 7 for others.
        vae: for a network of latents, the folder of its autoencoder in the format of diffusers, or "hf:org/name".

    Raises:
        InputError: a damaged file, an unsupported architecture, a missing autoencoder, or one that is not needed.
    """
    speed = speed or Speed()
    config = _config(path)
    coder = config.get("encoder")
    if coder is None and vae is not None:
        raise InputError(f"{path} holds a network for images, not latents: omit vae")
    if coder is not None and vae is None:
        raise InputError(
            f"{path} holds a network of the latents of {coder['vae_name']}: give vae=FOLDER with that autoencoder in "
            f"the format of diffusers, or vae='hf:{coder['vae_name']}'"
        )
    module = _network(str(path.resolve()), file_stamp(path), device, speed.channels_last, speed.checkpointing)
    inner, outer = config["inner"], config["outer"]
    n_classes, side = int(inner.get("label_dim") or 0), inner.get("img_resolution")
    default = PRECONDITIONERS[_outer_class(config)].schedule
    settings: dict[str, Any] = {
        "parametrization": "edm",
        "schedule": default(outer) if schedule is None else as_schedule(schedule),
        "shape": (inner.get("in_channels", inner.get("img_channels")), side, side),
        "speed": speed,
    }
    if n_classes:
        null = n_classes if inner.get("label_dropout", 0) else None
        prior: NetworkPrior = ConditionalPrior(module, n_classes, null, **settings)
    else:
        prior = NetworkPrior(module, **settings)
    return prior if vae is None or coder is None else _of_latents(prior, vae, coder, device)


def _of_latents(prior: NetworkPrior, vae: str | Path, coder: Mapping[str, Any], device: str) -> Prior:
    """Wrap a prior of latents z = scale raw + bias, with an autoencoder for images in [0, 1], as in EDM2."""
    from invsolve.priors.latent import LatentPrior
    from invsolve.priors.loading.diffusers import autoencoder
    from invsolve.priors.networks.diffusers import Autoencoder

    place = str(vae)
    if place.startswith("hf:"):
        from invsolve.priors.loading.repository import fetch_repository

        place = str(fetch_repository(place.removeprefix("hf:")))
    scale, bias = (
        torch.tensor(coder[name], dtype=torch.float32, device=device)[:, None, None] for name in ("scale", "bias")
    )
    both = Autoencoder(autoencoder(Path(place).expanduser(), device), scale, -bias / scale)
    return LatentPrior(prior, both.decode, both.encode, (0.0, 1.0), both.factor)


@lru_cache(maxsize=2)
def _network(path: str, stamp: tuple[int, int], device: str, *layout: bool) -> Preconditioned:
    weights, config = read_weights(path), _config(Path(path))
    with foreign(f"the configuration in {path}, which does not define a network,"), blank():
        network = _build(str(config.get("class")), config["inner"], weights)
    scaling = PRECONDITIONERS[_outer_class(config)].scaling(config["outer"])
    fill(network, weights.tensors, path, device=device)
    return Preconditioned(_Inner(network, int(config["inner"].get("label_dim") or 0)), scaling).to(device)


def _config(path: Path) -> dict[str, Any]:
    text = read_header(path).get("config")
    if text is None:
        raise InputError(f"{path} is not a converted EDM network: write it with invsolve priors convert")
    config = parse_json(text, f"the configuration in {path}")
    if not all(isinstance(config.get(name), dict) for name in ("inner", "outer")):
        raise InputError(f"{path} has a configuration without the arguments of its network: convert it again")
    whole_number(config["inner"], "img_resolution", 0, low=1, high=1 << 16, what=f"the configuration in {path}")
    if not any(config["inner"].get(name) for name in ("in_channels", "img_channels")):
        raise InputError(f"the configuration in {path} does not say how many channels an image has: convert it again")
    for name, high in _LARGEST.items():
        values = config["inner"].get(name)
        for value in values if isinstance(values, list) else () if values is None else (values,):
            whole_number({name: value}, name, 0, low=0, high=high, what=f"the configuration in {path}")
        if isinstance(values, list) and len(values) > 16:
            raise InputError(f"the configuration in {path} has {len(values)} values of {name}, more than any network")
    if _outer_class(config) not in PRECONDITIONERS:
        raise InputError(f"{path} has the unknown preconditioning {_outer_class(config):.100}")
    coder = config.get("encoder")
    if coder is not None and (not isinstance(coder, dict) or not all(map(_channels, (coder.get(n) for n in _CODER)))):
        raise InputError(f"{path} has an encoder without the scale and bias of its latents: convert it again")
    return config


_CODER = ("scale", "bias")


def _channels(values: Any) -> bool:
    """Whether the values are a list of numbers, one per channel."""
    return isinstance(values, list) and 0 < len(values) <= 64 and all(isinstance(v, int | float) for v in values)


def _outer_class(config: Mapping[str, Any]) -> str:
    return str(config.get("outer_class", "EDMPrecond"))


def _build(kind: str, inner: Mapping[str, Any], weights: Weights) -> nn.Module:
    if kind == "UNet":
        logvar = weights.tensors.get("logvar_fourier.freqs")
        return EDM2(EDM2Config.read({**inner, "logvar_channels": 0 if logvar is None else len(logvar)}))
    require("deepinv", "this network")
    from deepinv.models import ADMUNet, NCSNpp

    settings = {name: inner[name] for name in _FIELDS if name in inner}
    if kind == "DhariwalUNet":
        return ADMUNet(pretrained=None, **settings)
    if kind != "SongUNet":
        raise InputError(
            f"EDM networks of the class {kind:.100} are not supported; SongUNet and DhariwalUNet are, and EDM2"
        )
    parts = ("encoder_type", "embedding_type", "channel_mult_noise", "decoder_type", "resample_filter")
    variants = {
        "ddpm": ("standard", "positional", 1, "standard", [1, 1]),
        "ncsn": ("residual", "fourier", 2, "standard", [1, 3, 3, 1]),
    }
    model = "ncsn" if inner.get("encoder_type", "standard") == "residual" else "ddpm"
    for name, usual in zip(parts, variants[model], strict=True):
        if name in inner and inner[name] != usual:
            raise InputError(f"SongUNet is supported as DDPM++ and NCSN++; {name} is {inner[name]}, not {usual}")
    settings.setdefault("augment_dim", 0)
    return NCSNpp(model_type=model, pretrained=None, **settings)
