"""Diffusers pipelines in memory, and the text encoders of pipelines in folders."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from invsolve.core.boundary import foreign, read_json
from invsolve.core.checks import InputError
from invsolve.core.prior import Prior
from invsolve.priors.loading.repository import complete_text_encoders
from invsolve.priors.loading.schedulers import reading
from invsolve.priors.networks.diffusers import Autoencoder
from invsolve.priors.networks.execution import Speed
from invsolve.priors.prompts import Prompts

__all__ = ["folder_prompts", "from_pipeline"]


def from_pipeline(
    pipe: Any, *, value_range: tuple[float, float] | None = None, null: int | None = None, **options: Any
) -> Prior:
    """Make a prior from a diffusers pipeline in memory; it accepts text prompts if the pipeline has text encoders.

    The pipeline's own network and autoencoder are used on their device and in single precision (give dtype="bfloat16"
    for products in half precision). They are put into evaluation mode and their weights are frozen.

    Args:
        pipe: the pipeline.
        value_range, null: see `load_folder`.
        options: fields of `Speed`.

    Raises:
        InputError: a pipeline of another kind, or weights in half precision.
    """
    from invsolve.priors.loading.diffusers import assembled

    speed, rest = Speed.split(options)
    if rest:
        raise InputError(f"from_pipeline takes value_range, null and how the network is run, not {', '.join(rest)}")
    network = getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)
    if network is None or getattr(pipe, "scheduler", None) is None:
        raise InputError(
            f"a pipeline with a unet or a transformer and a scheduler is needed, got {type(pipe).__name__}"
        )
    if network.dtype not in (torch.float32, torch.float64):
        raise InputError(f"the pipeline is in {network.dtype}: load it in float32, and give dtype='bfloat16' here")
    coder = next((c for n in ("vae", "vqvae", "movq") if (c := getattr(pipe, n, None)) is not None), None)
    if coder is not None:
        coder.eval().requires_grad_(False)
    read = reading({**pipe.scheduler.config, "_class_name": type(pipe.scheduler).__name__})
    prompts = Prompts(lambda: pipe, _pixels(coder, network)) if getattr(pipe, "text_encoder", None) else None
    source = type(pipe).__name__
    return assembled(
        network, read, coder, speed=speed, value_range=value_range, null=null, source=source, prompts=prompts
    )


def _pixels(coder: Any, network: Any) -> tuple[int, int] | None:
    """The image size in pixels for a network of latents."""
    side = network.config.get("sample_size")
    if side is None or coder is None:
        return None
    height, width = (side, side) if isinstance(side, int) else side
    factor = Autoencoder.of(coder).factor
    return height * factor, width * factor


def folder_prompts(folder: Path, coder: Any, network: Any) -> Prompts | None:
    """The text encoders in a pipeline's folder, loaded when a text is given; None if there are none."""
    if not ((folder / "model_index.json").is_file() and (folder / "text_encoder").is_dir()):
        return None
    kind = str(read_json(folder / "model_index.json", "index of a pipeline").get("_class_name", ""))

    def load() -> Any:
        import diffusers

        found = getattr(diffusers, kind, None)
        if found is None:
            raise InputError(f"{folder} is a pipeline of the unknown class {kind}")
        known = inspect.signature(found.__init__).parameters
        complete_text_encoders(folder)
        left = {n: None for n in ("unet", "transformer", "vae", "safety_checker", "image_encoder") if n in known}
        with foreign(f"the text encoders in {folder}"):
            return found.from_pretrained(folder, local_files_only=True, **left)

    return Prompts(load, _pixels(coder, network))
