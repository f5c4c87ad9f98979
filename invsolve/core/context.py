"""The state of torch in which computations run, whatever the caller has set."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch

__all__ = ["own_context", "threads"]


@contextlib.contextmanager
def own_context() -> Generator[None]:
    """Run without inference mode, autocast and a default device of the caller.

    Inference mode forbids gradients through a network, autocast would round operators and data to 8 bits, and tensors
    on another default device could not be mixed with those that are made on the CPU. A prior has its own device and
    precision (`Speed`).
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextlib.contextmanager
def threads(count: int) -> Generator[None]:
    """Compute with this number of threads in a block or a function, and then with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
