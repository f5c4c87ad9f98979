"""Trained restoration networks: deepinv's, and any checkpoint that spandrel reads.

They use the measurement and the operator, never the prior. Weights are searched in the folders of INVSOLVE_WEIGHTS and
in the cache of torch. If they are not found, the row says which file is missing; nothing is downloaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.bench.peers.deepinv_samplers import physics_for
from invsolve.bench.peers.seen import kind_of
from invsolve.bench.peers.task import Sampler, Task, Unable
from invsolve.core.weight_files import find_weight_file
from invsolve.metrics import WeightsMissing
from invsolve.metrics.weights import find_weights, offline_hub
from invsolve.priors.loading.deepinv import tensors_alone

__all__ = ["WEIGHTS", "checkpoint", "denoiser", "dpir", "ram", "swinir"]

WEIGHTS = {
    "DRUNet": "drunet_deepinv_color_finetune_22k.pth",
    "SCUNet": "scunet_color_real_psnr.pth",
    "Restormer": "gaussian_color_denoising_blind.pth",
    "RAM": "ram.pth.tar",
}
"""Weight files of deepinv's networks, by class."""
_LEVELS = (15, 25, 50)
_SETTINGS: dict[str, dict[str, Any]] = {"Restormer": {"pretrained": "denoising_color"}, "RAM": {"pretrained": True}}


@lru_cache(maxsize=2)
def _network(name: str, file: str, **settings: Any) -> nn.Module:
    """Load a network of deepinv with its published weights.

    Raises:
        Unable: if the weights are not on this machine.
    """
    import deepinv

    try:
        with offline_hub(file), tensors_alone():
            return getattr(deepinv.models, name)(**settings).eval()
    except WeightsMissing as error:
        raise Unable(f"{error}; then --retry") from error


def _known(name: str) -> nn.Module:
    return _network(name, WEIGHTS[name], **_SETTINGS.get(name, {"pretrained": "download"}))


@contextmanager
def _counted(network: nn.Module, task: Task) -> Iterator[None]:
    """Count the rows that pass through a network."""
    hook = network.register_forward_hook(lambda _, inputs, out: task.count(len(inputs[0])))
    try:
        with torch.no_grad():
            yield
    finally:
        hook.remove()


def _denoised(task: Task, load: Callable[[], nn.Module]) -> Tensor:
    if kind_of(task.operator) != "denoise":
        raise Unable("it only removes noise")
    network = task.loaded(load)
    with _counted(network, task):
        return network(task.measured, task.sigma)


def denoiser(name: str) -> Sampler:
    """Return a denoiser of `WEIGHTS` as a peer; it is given the noise level."""
    return lambda task: _denoised(task, lambda: _known(name))


def swinir(task: Task) -> Tensor:
    """SwinIR trained for the nearest of three noise levels, or for 2x super-resolution."""
    kind = kind_of(task.operator)
    if kind == "superres" and task.operator.in_shape[-1] == 2 * task.operator.out_shape[-1]:
        file = "001_classicalSR_DF2K_s64w8_SwinIR-M_x2.pth"
        settings = {"upscale": 2, "img_size": 64, "upsampler": "pixelshuffle"}
        network = task.loaded(lambda: _network("SwinIR", file, **settings))
        with _counted(network, task):
            return network(task.measured)
    level = min(_LEVELS, key=lambda known: abs(known - 255 * task.sigma))
    file = f"005_colorDN_DFWB_s128w8_SwinIR-M_noise{level}.pth"
    if kind != "denoise":
        raise Unable("it only removes noise and enlarges by two")
    return _denoised(task, lambda: _network("SwinIR", file, pretrained_noise_level=level))


def _reconstructed(task: Task, model: Callable[..., Tensor], network: nn.Module) -> Tensor:
    with _counted(network, task):
        return model(task.measured, physics_for(task))


def ram(task: Task) -> Tensor:
    """RAM: one network for any linear operator and noise level."""
    network = task.loaded(lambda: _known("RAM"))
    return _reconstructed(task, network, network)


def dpir(task: Task) -> Tensor:
    """DPIR: half-quadratic splitting with DRUNet, eight steps."""
    from deepinv.optim import DPIR

    network: Any = task.loaded(lambda: _known("DRUNet"))
    return _reconstructed(task, DPIR(sigma=task.sigma, denoiser=network), network)


def checkpoint(file: str) -> Sampler:
    """Return a checkpoint that spandrel reads as a peer: SwinIR, Real-ESRGAN, Restormer, SCUNet, DRUNet and others."""

    def sample(task: Task) -> Tensor:
        spandrel: Any = importlib.import_module("spandrel")
        path = find_weight_file(file)
        if path is None:
            raise Unable(f"{_missing(file)}; then --retry")
        model = task.loaded(lambda: _spandrel(str(path)))
        if not isinstance(model, spandrel.ImageModelDescriptor):
            raise Unable("this checkpoint is not an image-to-image network")
        y = task.measured
        if y.ndim != 4 or (y.shape[-2] * model.scale, y.shape[-1] * model.scale) != task.operator.in_shape[-2:]:
            raise Unable(f"it enlarges {model.scale} times, which does not match this measurement")
        with _counted(model.model, task):
            return model(y.clamp(0, 1))

    return sample


@lru_cache(maxsize=2)
def _spandrel(path: str) -> Any:
    return importlib.import_module("spandrel").ModelLoader("cpu").load_from_file(path).eval()


def _missing(file: str) -> str:
    """Return the message about a missing weight file."""
    try:
        return str(find_weights(file))
    except WeightsMissing as error:
        return str(error)
