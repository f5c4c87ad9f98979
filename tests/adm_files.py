"""Checkpoints of the guided-diffusion family, written for tests with the published names and shapes."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from invsolve.priors.networks.adm import ADMUNet
from invsolve.priors.networks.adm_config import ADMConfig, infer

DATA = Path(__file__).parent / "data"
KEYS: dict[str, dict[str, list[int]]] = json.loads((DATA / "adm_keys.json").read_text())


def tiny() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The recorded network: its weights, and the arrays of the recorded run."""
    import numpy as np

    with np.load(DATA / "adm_tiny.npz") as arrays:
        run = {name: torch.from_numpy(arrays[name]) for name in ("q", "scale", "x", "t", "out", "grad_sum_eps_sq")}
    weights, start = {}, 0
    for i, (name, shape) in enumerate(KEYS["tiny"].items()):
        w = run["q"][start : start + prod(shape)].float().view(shape) * run["scale"][i]
        weights[name] = 4 * w + 1 if len(shape) == 1 and name.endswith("weight") else w
        start += prod(shape)
    return weights, run


def random_state(shapes: dict[str, list[int]], seed: int = 0) -> dict[str, Tensor]:
    """Weights of these names and shapes that keep activations of order one."""
    g = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            state[name] = torch.full(shape, float(name.endswith("weight")))
        else:
            state[name] = torch.randn(shape, generator=g) / prod(shape[1:]) ** 0.5
    return state


def narrow(name: str, width: int = 32, **changes: object) -> dict[str, list[int]]:
    """Names and shapes of a published network with fewer base channels."""
    config = infer(KEYS[name])
    return shapes_of(ADMConfig(**{**vars(config), "width": width, "head_channels": 16, **changes}))


def shapes_of(config: ADMConfig) -> dict[str, list[int]]:
    with torch.device("meta"):
        return {name: list(tensor.shape) for name, tensor in ADMUNet(config).state_dict().items()}
