"""Device, precision, signals and, if GPUs and `accelerate` are available, several processes."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import signal
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from invsolve.core.context import threads
from invsolve.priors.networks.execution import gains_by_bfloat16

__all__ = ["Runtime", "stop_on_signal", "without_denormals"]


@contextlib.contextmanager
def without_denormals() -> Generator[None]:
    """Flush denormal numbers to 0 in the calling thread inside the `with` block.

    The momentum of a weight whose gradient has become 0 decays to denormal numbers. On many processors an operation on
    a denormal number takes a hundred times longer: a run of three thousand steps slowed down to a fifth of its speed.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextlib.contextmanager
def stop_on_signal() -> Generator[list[int]]:
    """Collect SIGINT and SIGTERM, so that the loop can end with a checkpoint."""
    received: list[int] = []
    previous = {s: signal.signal(s, lambda number, _: received.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Runtime:
    """The device and precision of the training.

    Args:
        device: device of this process.
        bf16: whether autocast to bfloat16 is on.
        accelerator: an `accelerate.Accelerator`, or None for plain torch.
        workers: number of threads that share the batch on a CPU.
        compiled: whether the network is compiled for training by `torch.compile`.
    """

    device: torch.device
    bf16: bool
    accelerator: Any = None
    compiled: bool = False
    workers: int = 1

    @staticmethod
    def detect(precision: str = "auto", *, compiled: bool = False, workers: int | None = None) -> Runtime:
        """Use `accelerate` if it is installed and a GPU is available, else plain torch on the GPU or the CPU."""
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
        """The threads that share a batch."""
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
        """Compile a module for training and wrap it for several processes; it shares the parameters of `module`."""
        trained = cast(nn.Module, torch.compile(module)) if self.compiled else module
        return trained if self.accelerator is None else self.accelerator.prepare_model(trained)

    def gradients(
        self, loss: Callable[[slice], tuple[Tensor, Tensor]], n: int, parameters: list[nn.Parameter]
    ) -> Tensor:
        """Store the gradient of a sum over a batch in `parameters`.

        On a CPU the batch is split over `workers` threads, each with single-threaded operations. The operations of a
        small network are too short to split well, and on a busy machine one barrier per step costs less than one per
        operation (twice the crops per second on two cores). The parts are added in order, so the result does not
        depend on timing.

        Args:
            loss: function of a part of the batch; returns its total loss (a scalar) and the losses to report `[part]`.
            n: size of the batch.
            parameters: the leaf tensors to differentiate with respect to.

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
        with threads(1):
            results = list(self.pool.map(lambda part: _share(loss, part, parameters), parts))
        for i, p in enumerate(parameters):
            p.grad = results[0][0][i]
            for gradients, _ in results[1:]:
                p.grad += gradients[i]
        return torch.cat([report for _, report in results])

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return an autocast context for bfloat16, which does nothing if `bf16` is off."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False)


def _share(
    loss: Callable[[slice], tuple[Tensor, Tensor]], part: slice, parameters: list[nn.Parameter]
) -> tuple[tuple[Tensor, ...], Tensor]:
    torch.set_num_threads(1)
    total, report = loss(part)
    return torch.autograd.grad(total, parameters), report
