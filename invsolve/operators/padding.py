"""Borders: extend an image beyond its edge, and the exact adjoint of this."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.core.checks import InputError

__all__ = ["PADDINGS", "check_padding", "extend", "extend_adjoint"]

PADDINGS = ("circular", "reflect", "symmetric", "zero")
Sides = tuple[int, int]


def check_padding(padding: str) -> str:
    """Return `padding`, or raise `InputError` if it is not known."""
    if padding not in PADDINGS:
        raise InputError(f"padding must be one of {', '.join(PADDINGS)}; got {padding!r}")
    return padding


def _source(positions: Tensor, n: int, padding: str) -> Tensor:
    """The pixel 0..n-1 whose value each position (any integer) has under `padding`."""
    if padding == "circular":
        return positions % n
    if padding == "symmetric":  # half-sample: ... b a | a b c | c b ...
        folded = positions % (2 * n)
        return torch.minimum(folded, 2 * n - 1 - folded)
    period = max(2 * n - 2, 1)  # whole-sample: ... c b | a b c | b a ...
    folded = positions % period
    return torch.minimum(folded, period - folded) if n > 1 else torch.zeros_like(folded)


def _extend(x: Tensor, dim: int, sides: Sides, padding: str) -> Tensor:
    n, (before, after) = x.shape[dim], sides
    if before == after == 0:
        return x
    if padding == "zero":
        shape = list(x.shape)
        shape[dim] = before
        head = x.new_zeros(shape)
        shape[dim] = after
        return torch.cat([head, x, x.new_zeros(shape)], dim)
    head = _source(torch.arange(-before, 0, device=x.device), n, padding)
    tail = _source(torch.arange(n, n + after, device=x.device), n, padding)
    return torch.cat([x.index_select(dim, head), x, x.index_select(dim, tail)], dim)


def _extend_adjoint(z: Tensor, dim: int, sides: Sides, padding: str) -> Tensor:
    before, after = sides
    n = z.shape[dim] - before - after
    core = z.narrow(dim, before, n)
    if padding == "zero" or before == after == 0:
        return core
    head = _source(torch.arange(-before, 0, device=z.device), n, padding)
    tail = _source(torch.arange(n, n + after, device=z.device), n, padding)
    core = core.index_add(dim, head, z.narrow(dim, 0, before))
    return core.index_add(dim, tail, z.narrow(dim, before + n, after))


def extend(x: Tensor, rows: Sides, columns: Sides, padding: str) -> Tensor:
    """Extend the image [..., H, W] by (before, after) rows and columns."""
    return _extend(_extend(x, -2, rows, padding), -1, columns, padding)


def extend_adjoint(z: Tensor, rows: Sides, columns: Sides, padding: str) -> Tensor:
    """The transpose of `extend`: every border entry is added to the pixel it was copied from."""
    return _extend_adjoint(_extend_adjoint(z, -1, columns, padding), -2, rows, padding)
