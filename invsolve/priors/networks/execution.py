"""How a network is run: precision, memory layout, compilation, and recomputation instead of storage.

These settings change the results of a prior only by rounding. Outputs and input gradients agree, relative to their
norm, to 1e-5 for everything in float32, to 3e-2 in bfloat16 and to 1e-2 in float16 (the state stays in its own
precision; products are summed in float32).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from invsolve.core.checks import InputError, check_options, nearest

__all__ = ["DTYPES", "Network", "Speed", "gains_by_bfloat16"]

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Names of the precisions in which a network can compute."""


@runtime_checkable
class _Checkpointable(Protocol):
    """A network with its own implementation of checkpointing."""

    checkpointing: bool


@dataclass(frozen=True)
class Speed:
    """How a network is run.

    Args:
        dtype: precision of the network's products: torch.bfloat16, torch.float16 or their names; None leaves it
            unchanged. States and results keep their precision.
        channels_last: store the network's weights with the channels innermost, which is faster on most GPUs; None: only
            if the network runs on a CUDA GPU.
        compile: compile the network for each input shape (with CUDA graphs on a GPU), or "blocks": compile the members
            of its lists of blocks, equal ones only once. The first call takes minutes, less with "blocks". Compiled
            code is kept in the cache folder for later processes.
        checkpointing: if a gradient is taken, store only the input of each block and recompute the rest: at most one
            more forward pass. Weights stay frozen.
        chunk: samples in one network call; all at once if None. If a gradient is taken, each chunk is recomputed.

    Raises:
        InputError: an unknown precision or compile mode, or a chunk below 1.
    """

    dtype: torch.dtype | str | None = None
    channels_last: bool | None = None
    compile: bool | Literal["blocks"] = False
    checkpointing: bool = False
    chunk: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.dtype, str):
            if self.dtype not in DTYPES:
                raise InputError(f"unknown precision {self.dtype!r}; {nearest(self.dtype, DTYPES)}")
            object.__setattr__(self, "dtype", DTYPES[self.dtype])
        if self.dtype is not None and self.dtype not in (torch.bfloat16, torch.float16):
            raise InputError(f"dtype must be torch.bfloat16, torch.float16 or None, got {self.dtype}")
        if self.compile not in (False, True, "blocks"):
            raise InputError(f'compile must be true, false or "blocks", got {self.compile!r}')
        if self.chunk is not None and self.chunk < 1:
            raise InputError(f"chunk must be at least 1 sample, got {self.chunk}")

    @staticmethod
    def alone(what: str, options: Mapping[str, Any]) -> Speed:
        """Make a Speed from the options of `what`, which otherwise only accepts schedule and device.

        Raises:
            InputError: there are other options.
        """
        speed, others = Speed.split(options)
        check_options(what, others, ["schedule", "device", *(field.name for field in fields(Speed))])
        return speed

    @staticmethod
    def split(options: Mapping[str, Any]) -> tuple[Speed, dict[str, Any]]:
        """Split options into a Speed and the remaining options."""
        names = {field.name for field in fields(Speed)}
        own = {name: value for name, value in options.items() if name in names}
        return Speed(**own), {name: value for name, value in options.items() if name not in names}


class Network:
    """A module run with the settings of a `Speed`.

    It is called as network(x [N, ...], c [N], given); the values of `given` are numbers or [N, ...].

    Memory layout and checkpointing are set on the module itself.
    """

    def __init__(self, module: nn.Module, speed: Speed, device: torch.device) -> None:
        self.speed, self.device = speed, device
        self.channels_last = device.type == "cuda" if speed.channels_last is None else speed.channels_last
        if self.channels_last:
            module.to(memory_format=torch.channels_last)
        if speed.dtype is not None:
            module = cast_once(module, cast(torch.dtype, speed.dtype))
        if speed.checkpointing:
            _checkpoint_blocks(module)
        self._graphs = speed.compile is True and device.type == "cuda"
        self._call: Callable[..., Tensor] = _compiled(module, self._graphs, speed.compile) if speed.compile else module

    def __call__(self, x: Tensor, c: Tensor, given: Mapping[str, Any]) -> Tensor:
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        size = self.speed.chunk or len(x)
        if len(x) <= size:
            return self._run(x, c, given)
        parts = []
        for a in range(0, len(x), size):
            rows = slice(a, a + size)
            own = {k: v[rows] if isinstance(v, Tensor) and v.ndim else v for k, v in given.items()}
            if torch.is_grad_enabled() and x.requires_grad:
                call = partial(checkpoint, self._run, use_reentrant=False, preserve_rng_state=False)
            else:
                call = self._run
            parts.append(cast(Tensor, call(x[rows], c[rows], own)))
        return torch.cat(parts)

    def _run(self, x: Tensor, c: Tensor, given: Mapping[str, Any]) -> Tensor:
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()
        with self._precision():
            out = self._call(x, c, **given)
        # The next call of the CUDA graph overwrites its output.
        return out.clone() if self._graphs else out

    def _precision(self) -> AbstractContextManager[Any]:
        dtype = cast("torch.dtype | None", self.speed.dtype)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)


def gains_by_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 take less time than in float32 on the device.

    On a CPU this is the case with AMX, and with AVX512-BF16 on processors without AVX512-FP16. Processors with
    AVX512-FP16 (Intel from Sapphire Rapids on) are designed for AMX. If a virtual machine hides AMX there, bfloat16
    takes 1.6 times as long as float32 for `natural` (`python -m benchmarks.speed bf16`).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    can = torch.cpu.get_capabilities()
    return bool(can.get("amx_bf16") or (can.get("avx512_bf16") and not can.get("avx512_fp16")))


def cast_once(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of the module with the weights of convolutions and linear layers in `dtype`; the rest is shared.

    Autocast would round these constant weights again in every call. The products are bit-identical.
    """
    return _twin(module, dtype, {})


def _twin(module: nn.Module, dtype: torch.dtype | None, known: dict[int, nn.Module]) -> nn.Module:
    """Copy a module and its parts; a part used in several places is copied once. See `cast_once` for `dtype`."""
    if id(module) in known:
        return known[id(module)]
    known[id(module)] = twin = copy.copy(module)
    for name, table in vars(module).items():
        if isinstance(table, dict):  # parameters, submodules, hooks
            twin.__dict__[name] = copy.copy(table)
    for name, part in module._modules.items():
        twin._modules[name] = None if part is None else _twin(part, dtype, known)
    if dtype is not None and isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
        for name, own in module.named_parameters(recurse=False):
            twin._parameters[name] = nn.Parameter(own.detach().to(dtype), requires_grad=False)
    return twin


def _compiled(module: nn.Module, graphs: bool, what: bool | str) -> Callable[..., Tensor]:
    """The compiled module, or a copy of it with compiled blocks; the original is not changed."""
    from invsolve.priors.loading.hub import cache_folder

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
    if what != "blocks":
        return torch.compile(module, dynamic=False, mode="reduce-overhead" if graphs else None)
    twin = _twin(module, None, {})
    for block in _blocks(twin, "compile the whole network"):
        block.compile(dynamic=False)
    return twin


def _blocks(module: nn.Module, instead: str) -> list[nn.Module]:
    """The members of a network's outermost lists of blocks.

    Raises:
        InputError: there are none.
    """
    lists = [m for m in module.modules() if isinstance(m, nn.ModuleList | nn.ModuleDict)]
    inner = {id(m) for outer in lists for block in outer.children() for m in block.modules()}
    blocks = [block for outer in lists if id(outer) not in inner for block in outer.children()]
    if not blocks:
        raise InputError(f"{type(module).__name__} has no list of blocks: {instead}")
    return blocks


def _checkpoint_blocks(module: nn.Module) -> None:
    """Turn on checkpointing: by the network's own switch, or for each member of its lists of blocks.

    Raises:
        InputError: the network has neither.
    """
    if isinstance(module, _Checkpointable):
        module.checkpointing = True
        return
    for block in _blocks(module, "omit checkpointing"):
        if "forward" not in block.__dict__:
            block.forward = partial(_recomputed, block.forward)


def _recomputed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
