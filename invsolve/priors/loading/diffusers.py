"""Networks and pipelines in folders of the diffusers library, local or from the Hugging Face hub.

A folder contains either a pipeline (`model_index.json` with a network, a scheduler and an optional autoencoder) or one
network (`config.json`). Only classes of diffusers itself are used; code in a folder is never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from invsolve.core.boundary import check_archive, foreign, open_file, read_json
from invsolve.core.checks import InputError
from invsolve.core.prior import Prior
from invsolve.core.schedule import DDPMSchedule, FlowSchedule, Schedule
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.latent import LatentPrior
from invsolve.priors.loading.beta_tables import as_schedule
from invsolve.priors.loading.pipelines import folder_prompts
from invsolve.priors.loading.schedulers import Reading, reading
from invsolve.priors.network import NetworkPrior
from invsolve.priors.networks.diffusers import Autoencoder, DiffusersNetwork, FirstHalf, PackedNetwork
from invsolve.priors.networks.execution import Speed
from invsolve.priors.networks.preconditioning import Preconditioned
from invsolve.priors.prompts import PromptedPrior, Prompts
from invsolve.priors.traits import network_traits

__all__ = ["assembled", "autoencoder", "load_folder"]

NETWORKS = (
    "UNet2DModel", "UNet2DConditionModel", "DiTTransformer2DModel", "SD3Transformer2DModel",
    "FluxTransformer2DModel",
)  # fmt: skip
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny", "VQModel")
WEIGHTS = "diffusion_pytorch_model"
KEPT = 2

MAX_SIZE, MAX_LAYERS = 1 << 20, 512
"""Largest number in a network's configuration, and largest number of repetitions in it."""


def load_folder(
    folder: Path,
    *,
    device: str = "cpu",
    speed: Speed | None = None,
    schedule: Schedule | str | None = None,
    parametrization: str | None = None,
    value_range: tuple[float, float] | None = None,
    null: int | None = None,
) -> Prior:
    """Load the prior in a diffusers folder.

    Args:
        folder: folder of a pipeline or a network.
        device, speed: where and how the network is run.
        schedule, parametrization: needed if the folder has no scheduler, or an unknown one.
        value_range: value range of the images, if it differs from the default of the scheduler ([-1, 1], or [0, 1] for
            variance-exploding scores).
        null: the label that means no class to a U-Net, usually its last; the label of DiT is known.

    Raises:
        InputError: a folder of another kind, unsupported classes, or damaged files.
    """
    speed = speed or Speed()
    parts = _parts(folder)
    read = _reading(folder, parts, schedule, parametrization)
    key = (str(parts["network"].resolve()), _stamp(parts["network"]), device, speed.channels_last, speed.checkpointing)
    network = _part(*key[:3], NETWORKS, key[3:])
    coder = autoencoder(parts["autoencoder"], device) if "autoencoder" in parts else None
    prompts = folder_prompts(folder, coder, network)
    return assembled(
        network, read, coder, speed=speed, value_range=value_range, null=null, source=folder, prompts=prompts
    )


def assembled(
    network: Any,
    read: Reading,
    coder: Any = None,
    *,
    speed: Speed,
    value_range: tuple[float, float] | None = None,
    null: int | None = None,
    source: object,
    prompts: Prompts | None = None,
) -> Prior:
    """Make a prior from a diffusers network, its `Reading` and its autoencoder; see `load_folder`.

    Raises:
        InputError: a network of another kind, or one whose output does not match its input.
    """
    kind = type(network).__name__
    if kind not in NETWORKS:
        raise InputError(f"{source} holds a {kind}; supported are {', '.join(NETWORKS)}")
    packed = kind == "FluxTransformer2DModel"
    config = network.config
    channels, out = config.in_channels, getattr(config, "out_channels", None) or config.in_channels
    if out not in (channels, 2 * channels):
        raise InputError(
            f"the network of {source} takes {channels} channels and predicts {out}: a network that also takes an "
            "image, a mask or a depth map cannot be used as a prior"
        )
    module: nn.Module = PackedNetwork(network) if packed else DiffusersNetwork(network, read.scale, read.score)
    if not read.ranged:
        module = FirstHalf(module)
    if read.scaling is not None:
        module = Preconditioned(module, read.scaling)
    centred = getattr(config, "center_input_sample", False)  # the network itself maps [0, 1] to [-1, 1]
    images = value_range or ((0.0, 1.0) if centred else read.value_range)
    size = None if packed else config.sample_size
    sides = (size, size) if isinstance(size, int) else size
    settings: dict[str, Any] = {
        "parametrization": read.parametrization,
        "schedule": read.schedule,
        "conditioning": read.conditioning,
        "shape": None if sides is None else (channels, *sides),
        "value_range": images,
        "speed": speed,
    }
    n_classes, null = _classes(network, null)
    if n_classes:
        prior: Prior = ConditionalPrior(module, n_classes, null, **settings)
    else:
        prior = NetworkPrior(module, **settings)
    if prompts is not None:
        prior = PromptedPrior(prior, prompts)
    if coder is not None:
        both = Autoencoder.of(coder)
        of_latents = coder.config["latent_channels"] if packed else channels
        prior = LatentPrior(prior, both.decode, both.encode, images, both.factor, of_latents)
    if read.few_steps:
        prior.traits = network_traits(prior, few_steps=True)
    return prior


def autoencoder(folder: Path, device: str = "cpu") -> Any:
    """Load the diffusers autoencoder in a folder.

    Raises:
        InputError: missing folder, or a folder of another kind.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is not an autoencoder folder: it has no config.json")
    return _part(str(folder.resolve()), _stamp(folder), device, AUTOENCODERS, ())


def _parts(folder: Path) -> dict[str, Path]:
    """The folders of network, scheduler and autoencoder."""
    if (folder / "model_index.json").is_file():
        index = _read_json(folder, "model_index.json")
        names = {
            "network": ("unet", "transformer"),
            "scheduler": ("scheduler",),
            "autoencoder": ("vae", "vqvae", "movq"),
        }
        parts = {}
        for part, known in names.items():
            name = next(
                (n for n in known if isinstance(index.get(n), list) and len(index[n]) == 2 and index[n][1]), None
            )
            if name is not None:
                parts[part] = folder / name if (folder / name).is_dir() else folder
        if "network" not in parts:
            raise InputError(f"the pipeline in {folder} has neither a unet nor a transformer")
        return parts
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is not a diffusers folder: it has neither model_index.json nor config.json")
    places = (folder, folder.parent / "scheduler")
    found = next((place for place in places if (place / "scheduler_config.json").is_file()), None)
    return {"network": folder, **({} if found is None else {"scheduler": found})}


def _reading(
    folder: Path, parts: Mapping[str, Path], schedule: Schedule | str | None, parametrization: str | None
) -> Reading:
    if "scheduler" in parts and schedule is None:
        read = reading(_read_json(parts["scheduler"], "scheduler_config.json"))
        return read if parametrization is None else read._replace(parametrization=parametrization)
    if schedule is None:
        raise InputError(f"{folder} has no scheduler: give schedule=... (for example 'linear') and parametrization=...")
    own = as_schedule(schedule)
    tabled = isinstance(own, DDPMSchedule)
    default = "velocity" if isinstance(own, FlowSchedule) else "eps"
    return Reading(own, parametrization or default, "index" if tabled else "time", scale=1.0 if tabled else 1000.0)


@lru_cache(maxsize=KEPT)
def _part(path: str, stamp: tuple[int, ...], device: str, allowed: tuple[str, ...], layout: tuple[bool, ...]) -> Any:
    """A part of a pipeline, cached in the process."""
    folder = Path(path)
    config = _read_json(folder, "config.json")
    kind = str(config.get("_class_name", ""))
    kind = "DiTTransformer2DModel" if kind == "Transformer2DModel" else kind
    if kind not in allowed:
        raise InputError(
            f"{folder} holds a {kind[:100] or 'network without a class'}; supported are {', '.join(allowed)}"
        )
    try:
        import diffusers
    except ImportError as error:
        raise InputError("diffusers folders need: pip install 'invsolve[priors]'") from error
    made = getattr(diffusers, kind)
    with foreign(folder):
        _check_size(made, config, folder)
        model = made.from_pretrained(
            folder,
            torch_dtype=torch.float32,
            local_files_only=True,
            **_files(folder),
            low_cpu_mem_usage=find_spec("accelerate") is not None,  # True needs accelerate; without it diffusers warns
        )
    return model.to(device).eval().requires_grad_(False)


def _files(folder: Path) -> dict[str, Any]:
    """Which weights of a folder are read: safetensors before others, a variant (fp16) only if there is nothing else."""
    for ending in (".safetensors", ".bin"):
        names = [path.name.removesuffix(ending) for path in folder.glob(f"{WEIGHTS}*{ending}")]
        parts = [name.removeprefix(WEIGHTS).split("-")[0].removeprefix(".") for name in names]
        if parts:
            variants = sorted(set(parts), key=lambda v: (v != "", v == "non_ema", v not in ("fp16", "bf16"), v))
            return {"use_safetensors": ending == ".safetensors", "variant": variants[0] or None}
    return {"use_safetensors": False}


def _check_size(made: Any, config: Mapping[str, Any], folder: Path) -> None:
    """Raise `InputError` if the configured network is larger than its weight files."""
    _check_numbers(config, folder)
    total = 0
    for path in [*folder.glob("*.safetensors"), *folder.glob("*.bin")]:
        with open_file(path, "weight file") as file:
            total += file.seek(0, 2)
        if path.suffix == ".bin":
            check_archive(path)
    if not total:
        raise InputError(f"{folder} has no weights: *.safetensors or *.bin")
    with torch.device("meta"):
        parameters = sum(p.numel() for p in made.from_config(dict(config)).parameters())
    if parameters > total:
        raise InputError(f"{folder} describes a network of {parameters} parameters, and has {total} bytes of weights")


def _check_numbers(value: Any, folder: Path, name: str = "", depth: int = 0) -> None:
    """Raise `InputError` for unrealistic numbers, so that building the network neither hangs nor fills the memory."""
    high = MAX_LAYERS if "layer" in name or ("block" in name and "channels" not in name) else MAX_SIZE
    if depth > 8 or (isinstance(value, list | dict) and len(value) > MAX_LAYERS):
        raise InputError(f"the configuration in {folder} is larger than that of any network")
    if isinstance(value, int | float) and not abs(value) <= high:
        raise InputError(f"the configuration in {folder} has {name} = {value!r:.60}, more than any network")
    entries = (
        value.items() if isinstance(value, dict) else [(name, v) for v in value] if isinstance(value, list) else ()
    )
    for key, entry in entries:
        _check_numbers(entry, folder, key, depth + 1)


def _classes(network: Any, null: int | None) -> tuple[int, int | None]:
    """The number of classes and the label for no class: DiT has such a label, a U-Net may use its last one."""
    if type(network).__name__ == "DiTTransformer2DModel":
        n = network.config.num_embeds_ada_norm
        return n, n
    if type(network).__name__ == "UNet2DModel":
        n = network.config.num_class_embeds or 0
        return n - (null is not None and null == n - 1), null
    return 0, None


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    return read_json(folder / name, "configuration")


def _stamp(folder: Path) -> tuple[int, ...]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return tuple(n for path in files for n in (path.stat().st_mtime_ns, path.stat().st_size))
