"""Networks and pipelines in the folders of the diffusers library, local or from the Hugging Face hub.

A folder has either a pipeline (`model_index.json` with a network, a scheduler and perhaps an autoencoder) or one
network (`config.json`). Classes are those that diffusers itself has; code that lies in a folder is never run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from invsolve.core.checks import InputError
from invsolve.core.prior import Prior
from invsolve.core.schedule import DDPMSchedule, FlowSchedule, Schedule, VESchedule
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.latent import LatentPrior
from invsolve.priors.loading.beta_tables import as_schedule, betas, zero_terminal_snr
from invsolve.priors.network import NetworkPrior
from invsolve.priors.networks.diffusers import Autoencoder, DiffusersNetwork, PackedNetwork
from invsolve.priors.networks.execution import Speed
from invsolve.priors.networks.preconditioning import EDMScaling, Preconditioned

__all__ = ["Reading", "autoencoder", "load_folder", "reading"]

NETWORKS = (
    "UNet2DModel", "UNet2DConditionModel", "DiTTransformer2DModel", "SD3Transformer2DModel",
    "FluxTransformer2DModel",
)  # fmt: skip
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny", "VQModel")
TABLES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine", "sigmoid": "sigmoid"}
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
KEPT = 2


class Reading(NamedTuple):
    """How a scheduler's configuration says that a network is to be read.

    Attributes:
        schedule: of the states.
        parametrization, conditioning: of `NetworkPrior`.
        wrapper: "edm" (preconditioning), "score" (a variance-exploding score) or "".
        scale: the network is given this times the condition.
        value_range: of images.
    """

    schedule: Schedule
    parametrization: str
    conditioning: str
    wrapper: str = ""
    scale: float = 1.0
    value_range: tuple[float, float] = (-1.0, 1.0)


def reading(config: Mapping[str, Any]) -> Reading:
    """What the configuration of a scheduler means.

    Raises:
        InputError: a kind of scheduler that is not known.
    """
    kind = str(config.get("_class_name", ""))
    if kind.startswith("FlowMatch"):
        shift = float(config.get("shift", 1.0))
        if config.get("use_dynamic_shifting", False):
            # The shift then grows with the image; this is the one of the largest.
            shift = math.exp(config.get("max_shift", 1.15))
        return Reading(FlowSchedule(shift), "velocity", "time", scale=float(config.get("num_train_timesteps", 1000)))
    if kind.startswith("EDM"):
        schedule = VESchedule(config.get("sigma_max", 80.0), config.get("sigma_min", 0.002), config.get("rho", 7.0))
        return Reading(schedule, "edm", "sigma", "edm")
    if kind.startswith("ScoreSdeVe"):
        schedule = VESchedule(config.get("sigma_max", 1348.0), config.get("sigma_min", 0.01))
        return Reading(schedule, "edm", "sigma", "score", value_range=(0.0, 1.0))
    if config.get("use_flow_sigmas", False) and config.get("prediction_type") == "flow_prediction":
        scale = float(config.get("num_train_timesteps", 1000))
        return Reading(FlowSchedule(float(config.get("flow_shift", 1.0))), "velocity", "time", scale=scale)
    table, prediction = config.get("beta_schedule"), config.get("prediction_type", "epsilon")
    if (table not in TABLES and config.get("trained_betas") is None) or prediction not in PREDICTIONS:
        raise InputError(
            f"the scheduler {kind or 'without a name'} (table {table!r}, prediction {prediction!r}) is not known: "
            "give schedule=... and parametrization=..."
        )
    if config.get("trained_betas") is not None:
        values = torch.tensor(config["trained_betas"], dtype=torch.float64)
    else:
        n, first, last = (
            config.get(k, d) for k, d in (("num_train_timesteps", 1000), ("beta_start", 1e-4), ("beta_end", 0.02))
        )
        values = betas(TABLES[str(table)], n, first, last)
    if config.get("rescale_betas_zero_snr", False):
        values = zero_terminal_snr(values)
    return Reading(DDPMSchedule(values), PREDICTIONS[prediction], "index")


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
    """The prior in a folder of diffusers.

    Args:
        folder: a pipeline's or a network's.
        device, speed: where and how it computes.
        schedule, parametrization: where the folder has no scheduler, or has one that is not known.
        value_range: of images, where it is another than the scheduler's kind has ([-1, 1], or [0, 1] for
            variance-exploding scores).
        null: the label that a U-Net was taught to take for no class, usually its last; DiT's is known.

    Raises:
        InputError: a folder of another kind, classes that are not supported, damaged files.
    """
    speed = speed or Speed()
    parts = _parts(folder)
    read = _reading(folder, parts, schedule, parametrization)
    key = (str(parts["network"].resolve()), _stamp(parts["network"]), device, speed.channels_last, speed.checkpointing)
    network = _part(*key[:3], NETWORKS, key[3:])
    packed = type(network).__name__ == "FluxTransformer2DModel"
    module: nn.Module = DiffusersNetwork(network, read.scale, read.wrapper == "score")
    if packed:
        module = PackedNetwork(network)
    if read.wrapper == "edm":
        scheduler = _read_json(parts["scheduler"], "scheduler_config.json")
        module = Preconditioned(module, EDMScaling(scheduler.get("sigma_data", 0.5)))
    images = value_range or read.value_range
    size, channels = (None, 0) if packed else (network.config.sample_size, network.config.in_channels)
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
    if "autoencoder" not in parts:
        return prior
    coder = autoencoder(parts["autoencoder"], device)
    known = coder.config
    both = Autoencoder(coder, float(known.get("scaling_factor") or 1.0), float(known.get("shift_factor") or 0.0))
    return LatentPrior(prior, both.decode, both.encode, images, both.factor, channels or known["latent_channels"])


def autoencoder(folder: Path, device: str = "cpu") -> Any:
    """The autoencoder of diffusers in a folder.

    Raises:
        InputError: no such folder, or one of another kind.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no folder of an autoencoder: it has no config.json")
    return _part(str(folder.resolve()), _stamp(folder), device, AUTOENCODERS, ())


def _parts(folder: Path) -> dict[str, Path]:
    """Where network, scheduler and autoencoder lie."""
    if (folder / "model_index.json").is_file():
        index = _read_json(folder, "model_index.json")
        names = {
            "network": ("unet", "transformer"),
            "scheduler": ("scheduler",),
            "autoencoder": ("vae", "vqvae", "movq"),
        }
        parts = {}
        for part, known in names.items():
            name = next((n for n in known if isinstance(index.get(n), list) and index[n][1]), None)
            if name is not None:
                parts[part] = folder / name if (folder / name).is_dir() else folder
        if "network" not in parts:
            raise InputError(f"the pipeline in {folder} has neither a unet nor a transformer")
        return parts
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no folder of diffusers: it has neither model_index.json nor config.json")
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
    """A part of a pipeline, kept for the process."""
    folder = Path(path)
    kind = str(_read_json(folder, "config.json").get("_class_name", ""))
    kind = "DiTTransformer2DModel" if kind == "Transformer2DModel" else kind
    if kind not in allowed:
        raise InputError(f"{folder} holds a {kind or 'network without a class'}; supported are {', '.join(allowed)}")
    try:
        import diffusers
    except ImportError as error:
        raise InputError("folders of diffusers need: pip install 'invsolve[priors]'") from error
    weights = sorted(folder.glob("*.safetensors"))
    try:
        model = getattr(diffusers, kind).from_pretrained(
            folder,
            torch_dtype=torch.float32,
            local_files_only=True,
            use_safetensors=bool(weights),
            low_cpu_mem_usage=find_spec("accelerate") is not None,  # which it needs; without it diffusers warns
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{folder} cannot be read: {reason}") from error
    return model.to(device).eval().requires_grad_(False)


def _classes(network: Any, null: int | None) -> tuple[int, int | None]:
    """The number of classes of a network, and the label for none: DiT has one, a U-Net may have kept its last one."""
    if type(network).__name__ == "DiTTransformer2DModel":
        n = network.config.num_embeds_ada_norm
        return n, n
    if type(network).__name__ == "UNet2DModel":
        n = network.config.num_class_embeds or 0
        return n - (null is not None and null == n - 1), null
    return 0, None


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{folder / name} is no configuration")
    return content


def _stamp(folder: Path) -> tuple[int, ...]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return tuple(n for path in files for n in (path.stat().st_mtime_ns, path.stat().st_size))
