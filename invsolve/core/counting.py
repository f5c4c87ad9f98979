"""A prior that counts its network calls and marks invalid predictions."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.core.linalg import column
from invsolve.core.prior import Prediction, Prior, WrappedPrior

__all__ = ["LARGEST", "Calls", "CountingPrior"]

LARGEST = 1e18
"""No image has larger values, and their squares are still finite in float32. An unstable sampler may reach larger
states for a while, so predictions count as invalid only if they are larger than the state by this factor."""


class Calls:
    """Numbers of network evaluations and of gradients with respect to the network's input, in rows (samples).

    `finite` is the last estimate that was found finite on the CPU and requires no gradient.
    """

    def __init__(self) -> None:
        self.forward_rows = 0
        self.backward_rows = 0
        self.finite: Tensor | None = None


class CountingPrior(WrappedPrior):
    """A prior that counts the evaluations of another prior and the gradients to its input.

    A row with infinite predictions, or with predictions above `LARGEST` times the values of the state (or 1), becomes
    NaN. Otherwise clamping could turn it into an image; with NaN, the driver ends the sample.
    """

    def __init__(self, prior: Prior, calls: Calls | None = None) -> None:
        super().__init__(prior)
        self.calls = calls or Calls()

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        x0 = self.prior.denoise(self._counted(x_t), t)
        bad = _beyond(x_t, x0)
        return self._seen(x0) if bad is None else torch.where(bad, torch.nan, x0)

    def predict(self, x_t: Tensor, t: float) -> Prediction:
        out = self.prior.predict(self._counted(x_t), t)
        bad = _beyond(x_t, out.x0, *(() if out.variance is None else (out.variance,)))
        if bad is None:
            self._seen(out.x0)
            return out
        return out.replace(x0=torch.where(bad, torch.nan, out.x0), eps=lambda: torch.where(bad, torch.nan, out.eps))

    def _seen(self, x0: Tensor) -> Tensor:
        if x0.is_cpu and not x0.requires_grad:
            self.calls.finite = x0
        return x0

    def _counted(self, x_t: Tensor) -> Tensor:
        """Count a call; if `x_t` requires a gradient, return a view of it with a hook that counts the gradient."""
        calls, n = self.calls, x_t.shape[0]
        calls.forward_rows += n
        if not (x_t.requires_grad and torch.is_grad_enabled()):
            return x_t
        x_t = x_t.view_as(x_t)

        def count(gradients: tuple[Tensor, ...]) -> None:
            calls.backward_rows += n

        assert x_t.grad_fn is not None
        x_t.grad_fn.register_prehook(count)
        return x_t


def _beyond(x_t: Tensor, *values: Tensor) -> Tensor | None:
    """A mask [N, 1, ...] of rows with invalid predictions; None if the CPU finds none."""
    if x_t.device.type == "cpu" and all(map(_ordinary, values)):
        return None
    rows = torch.stack([v.detach().flatten(1).abs().amax(1) for v in values]).amax(0)
    bad = ~(rows <= LARGEST * x_t.detach().flatten(1).abs().amax(1).clamp_min(1.0)) | rows.isinf()
    if bad.device.type == "cpu" and not bool(bad.any()):
        return None
    return column(bad, values[0])


def _ordinary(value: Tensor) -> bool:
    """Whether the norm, and so all values, are within `LARGEST`; this takes one pass. False for NaN."""
    return torch.linalg.vector_norm(value.detach()).item() <= LARGEST
