"""Pickles in the form of the published EDM and EDM2 networks, written for tests."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import nn

INNER = {
    "img_resolution": 8, "in_channels": 3, "out_channels": 3, "label_dim": 4, "augment_dim": 2, "model_channels": 32,
    "channel_mult": [1, 1], "num_blocks": 1, "attn_resolutions": [4],
}  # fmt: skip


def network(kind: str, **changes: Any) -> Any:
    """A small network of a kind, with seeded weights."""
    from deepinv.models import ADMUNet, NCSNpp

    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "DhariwalUNet":
            return ADMUNet(pretrained=None, **{**INNER, **changes})
        return NCSNpp(model_type="ddpm" if kind == "SongUNet" else "ncsn", pretrained=None, **{**INNER, **changes})


class Published:
    """Pickles as the published files do: a call of a function of their own on class name, source and state."""

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.class_name, self.state = class_name, state

    def __reduce__(self) -> Any:
        meta = {"type": "class", "version": 6, "module_src": "raise SystemExit", "class_name": self.class_name}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, ({**meta, "state": self.state},)


def published(module: nn.Module, kind: str = "", **state: Any) -> Published:
    """The module and everything below it in that form."""
    modules = {name: published(child) for name, child in module.named_children()}
    own = {"_parameters": dict(module._parameters), "_buffers": dict(module._buffers), "_modules": modules}
    return Published(kind or type(module).__name__, {**own, "_init_args": (), "training": False, **state})


def dump(path: Path, monkeypatch: Any, content: Any) -> None:
    """Pickle `content` with a rebuilding function that fails if it is ever called."""
    place: Any = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta: Any) -> None:
        raise AssertionError("the pickle ran")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    place._reconstruct_persistent_obj = _reconstruct_persistent_obj
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
        patch.setitem(sys.modules, "torch_utils.persistence", place)
        path.write_bytes(pickle.dumps(content))


def write(
    path: Path,
    monkeypatch: Any,
    inner: nn.Module,
    kind: str,
    outer: str = "EDMPrecond",
    state: dict[str, Any] | None = None,
    **init: Any,
) -> None:
    """A network of EDM in a pickle of the published form."""
    extra = {"encoder_type": "residual"} if kind == "SongUNet-ncsn" else {}
    model = published(inner, kind.removesuffix("-ncsn"), _init_kwargs={**INNER, **extra, **init})
    whole = {"_modules": {"model": model}, "sigma_data": 0.5, "sigma_max": float("inf"), "label_dim": 4}
    dump(path, monkeypatch, {"ema": Published(outer, {**whole, **(state or {})}), "loss_fn": None})
