"""Device, precision and, where GPUs and `accelerate` are present, several processes."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from invsolve.priors.networks.execution import gains_by_bfloat16

__all__ = ["Runtime"]


@contextlib.contextmanager
def without_denormals() -> Generator[None]:
    """Let the calling thread compute with 0 in the place of denormal numbers inside the block.

    The momentum of a weight whose gradient has become 0 decays through them, and on many processors an operation on a
    denormal number takes a hundred times longer: a run of three thousand steps went at a fifth of its speed.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@dataclass(frozen=True)
class Runtime:
    """Where and in which precision the network is trained.

    Args:
        device: device of this process.
        bf16: whether autocast to bfloat16 is on.
        accelerator: an `accelerate.Accelerator`, or None for plain torch.
        workers: threads that each take a share of the batch on a CPU.
        compiled: whether the network is compiled for training by `torch.compile`.
    """

    device: torch.device
    bf16: bool
    accelerator: Any = None
    compiled: bool = False
    workers: int = 1

    @staticmethod
    def detect(precision: str = "auto", *, compiled: bool = False, workers: int | None = None) -> Runtime:
        """Use `accelerate` where it is installed and a GPU is present, else plain torch on the GPU or the CPU."""
        accelerator = None
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device.type == "cuda" and importlib.util.find_spec("accelerate") is not None:
            from accelerate import Accelerator  # pyright: ignore[reportMissingImports]

            accelerator = Accelerator()
            device = accelerator.device
        bf16 = gains_by_bfloat16(device) if precision == "auto" else precision == "bf16"
        if workers is None:
            workers = torch.get_num_threads() if device.type == "cpu" else 1
        return Runtime(device, bf16, accelerator, compiled, workers)

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """The threads among which a batch is shared."""
        return ThreadPoolExecutor(self.workers, initializer=torch.set_flush_denormal, initargs=(True,))

    @property
    def rank(self) -> int:
        """Index of this process; 0 writes the files."""
        return 0 if self.accelerator is None else int(self.accelerator.process_index)

    @property
    def processes(self) -> int:
        """Number of processes that train together."""
        return 1 if self.accelerator is None else int(self.accelerator.num_processes)

    def prepare(self, module: nn.Module) -> nn.Module:
        """Compile a module for training and wrap it for several processes; the parameters stay those of `module`."""
        trained = cast(nn.Module, torch.compile(module)) if self.compiled else module
        return trained if self.accelerator is None else self.accelerator.prepare_model(trained)

    def gradients(
        self, loss: Callable[[slice], tuple[Tensor, Tensor]], n: int, parameters: list[nn.Parameter]
    ) -> Tensor:
        """Leave the gradient of a sum over a batch in `parameters`.

        On a CPU the batch is shared out over `workers` threads that run single-threaded operations: a small network's
        operations are too short to be split well, and one barrier a step bears a busy machine better than one an
        operation (twice the crops a second on two cores). The shares are added in order, so the result does not depend
        on timing.

        Args:
            loss: gives for a part of the batch its total loss (a scalar) and the losses to report `[part]`.
            n: size of the batch.
            parameters: the leaves.

        Returns:
            The losses to report, `[n]`.
        """
        if self.workers == 1:
            total, report = loss(slice(0, n))
            if self.accelerator is None:
                total.backward()
            else:
                self.accelerator.backward(total)
            return report
        cuts = [round(i * n / self.workers) for i in range(self.workers + 1)]
        parts = [slice(a, b) for a, b in itertools.pairwise(cuts) if b > a]
        with single_threaded_operations():
            results = list(self.pool.map(lambda part: _share(loss, part, parameters), parts))
        for i, p in enumerate(parameters):
            p.grad = results[0][0][i]
            for gradients, _ in results[1:]:
                p.grad += gradients[i]
        return torch.cat([report for _, report in results])

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast to bfloat16 where it is on."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False)


def _share(
    loss: Callable[[slice], tuple[Tensor, Tensor]], part: slice, parameters: list[nn.Parameter]
) -> tuple[tuple[Tensor, ...], Tensor]:
    torch.set_num_threads(1)
    total, report = loss(part)
    return torch.autograd.grad(total, parameters), report


@contextlib.contextmanager
def single_threaded_operations() -> Generator[None]:
    """Let torch use one thread an operation inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
