"""Muon: momentum with orthogonalised updates, for the weights of convolutions.

K. Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks",
https://kellerjordan.github.io/posts/muon; step scaled as in Liu et al. 2025, "Muon is scalable for LLM training",
arXiv:2502.16982, so that AdamW's learning rates apply.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Executor
from functools import partial

import torch
from torch import Tensor, nn

__all__ = ["Muon", "orthogonalise", "split_parameters"]


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of matrices `g [B, m, n]` towards 1 by a quintic Newton-Schulz iteration.

    `X <- (a + b G + c G^2) X` with `G = X X^T` keeps the singular vectors of X, so every factor is a polynomial of the
    first G. The factors are multiplied as `m x m` matrices and applied to X once. For convolutions, where n = 9 m,
    this takes less than half the operations of iterating on X itself.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[-2] > g.shape[-1]
    x = g.mT if tall else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram = x @ x.mT
    eye = torch.eye(gram.shape[-1], dtype=g.dtype, device=g.device)
    total: Tensor | None = None
    for i in range(steps):
        factor = a * eye + torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        total = factor if total is None else factor @ total
        if i + 1 < steps:
            gram = factor @ gram @ factor
    x = x if total is None else total @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay; convolution weights are flattened to `[out, in * k * k]`.

    Args:
        params: weights of two dimensions or more.
        lr: learning rate, on the scale of AdamW: the update has a root mean square of about `0.2 lr`.
        momentum: decay of the momentum.
        weight_decay: decoupled decay, applied as `1 - lr * weight_decay`.
        pool: threads that share the updates of differently shaped weights.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        pool: Executor | None = None,
    ) -> None:
        self._map = map if pool is None else pool.map
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every weight; weights of equal shape are orthogonalised in one batch."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[tuple(p.shape)].append(p)
            by_work = sorted(
                by_shape.values(), key=lambda weights: -len(weights) * weights[0][0].numel() * len(weights[0]) ** 2
            )
            list(self._map(partial(self._update, group), by_work))

    @torch.no_grad()
    def _update(self, group: dict[str, float], weights: list[Tensor]) -> None:
        grads = [p.grad for p in weights if p.grad is not None]
        buffers = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in weights]
        for buffer, grad in zip(buffers, grads, strict=True):
            buffer.lerp_(grad, 1 - group["momentum"])
        nesterov = [g.lerp(b, group["momentum"]) for g, b in zip(grads, buffers, strict=True)]
        updates = orthogonalise(torch.stack([u.flatten(1) for u in nesterov]))
        scale = 0.2 * max(updates.shape[-2:]) ** 0.5
        for p, u in zip(weights, updates, strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"]).add_(u.reshape(p.shape), alpha=-group["lr"] * scale)


def split_parameters(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Split into the weights of inner convolutions, for Muon, and all others (ends, biases, embeddings), for AdamW."""
    inner: list[Tensor] = []
    rest: list[Tensor] = []
    for name, p in module.named_parameters():
        (inner if p.ndim == 4 and not name.startswith(("head.", "tail.")) else rest).append(p)
    return inner, rest
