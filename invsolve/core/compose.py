"""Combined operators: A @ B, A + B, A - B, c * A, Stack(A, B).

Shapes are checked on construction. A part gets those entries of theta that it lists in `parameters`. Linear parts give
linear operators. If the parts are diagonal in one basis (`SVDOperator.basis`: blurs with one kind of border, masks), so
are their product, their sum and their multiples, with all closed forms; a stack of such parts has a closed form for
`solve_normal`.
"""

from __future__ import annotations

from math import prod
from typing import Any, Self

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError, ShapeError, check_shape
from invsolve.core.linalg import per_sample, real_dtype
from invsolve.core.operator import EMPTY, LinearOperator, Operator, Params
from invsolve.core.svd import SVDOperator

__all__ = ["Stack", "add", "compose", "scale"]


def compose(outer: Operator, inner: Operator) -> Operator:
    """x -> outer(inner(x)); `outer @ inner` calls this.

    Raises:
        ShapeError: the output shape of `inner` is not the input shape of `outer`.
    """
    if tuple(inner.out_shape) != tuple(outer.in_shape):
        raise ShapeError(
            f"{outer!r} @ {inner!r}: the right one makes {list(inner.out_shape)}, the left one takes "
            f"{list(outer.in_shape)}"
        )
    if _share_basis(outer, inner):
        return _Spectral((outer, inner), "@")
    linear = isinstance(outer, LinearOperator) and isinstance(inner, LinearOperator)
    return _LinearProduct(outer, inner) if linear else _Product(outer, inner)


def add(first: Operator, second: Operator) -> Operator:
    """x -> first(x) + second(x); `first + second` calls this.

    Raises:
        ShapeError: their shapes differ.
    """
    if (tuple(first.in_shape), tuple(first.out_shape)) != (tuple(second.in_shape), tuple(second.out_shape)):
        raise ShapeError(f"operators to add must have the same shapes, got {first!r} and {second!r}")
    if _share_basis(first, second):
        return _Spectral((first, second), "+")
    linear = isinstance(first, LinearOperator) and isinstance(second, LinearOperator)
    return _LinearSum(first, second) if linear else _Sum(first, second)


def scale(weight: float, operator: Operator) -> Operator:
    """x -> weight * operator(x); `weight * operator` calls this."""
    if not torch.isfinite(torch.tensor(float(weight))):
        raise InputError(f"the scale of an operator must be finite, got {weight}")
    if _share_basis(operator):
        return _Spectral((operator,), "*", float(weight))
    return _LinearMultiple(weight, operator) if isinstance(operator, LinearOperator) else _Multiple(weight, operator)


def Stack(*parts: Operator) -> _Stack:
    """Several measurements of one image, y = [A_1 x, A_2 x, ...], flattened and concatenated to [N, m].

    Its method `split` returns the measurements of the parts, [N, *out_shape] each.

    Args:
        parts: operators with one `in_shape`. The stack is linear if all parts are linear. If all parts are diagonal in
            one basis, `solve_normal` has a closed form.

    Raises:
        ShapeError: the parts take images of different shapes.
    """
    if not parts or any(tuple(part.in_shape) != tuple(parts[0].in_shape) for part in parts):
        raise ShapeError(f"stacked operators must share one input shape, got {[list(p.in_shape) for p in parts]}")
    return _LinearStack(*parts) if all(isinstance(part, LinearOperator) for part in parts) else _Stack(*parts)


def _share_basis(*parts: Operator) -> bool:
    bases = [part.basis if isinstance(part, SVDOperator) else None for part in parts]
    return bases[0] is not None and all(basis == bases[0] for basis in bases)


class _Combined(Operator):
    """Base class of combined operators: parts, their parameters, and selection of rows."""

    parts: tuple[Any, ...]
    sign: str

    def _adopt(self, *parts: Operator) -> None:
        self.parts = parts
        self.parameters = tuple(dict.fromkeys(name for part in parts for name in part.parameters))
        self.surrogate_gradient = any(part.surrogate_gradient for part in parts)

    def _theta(self, part: Operator, theta: Params) -> Params:
        unknown = [name for name in theta if name not in self.parameters]
        if unknown:
            raise CapabilityError(
                f"no part of {self!r} takes theta[{unknown[0]!r}]: an operator lists the names that it takes in "
                "`parameters`"
            )
        return {name: theta[name] for name in part.parameters if name in theta}

    def select(self, rows: Tensor) -> Self:
        return self._rebuilt(tuple(part.select(rows) for part in self.parts))

    def _rebuilt(self, parts: tuple[Operator, ...]) -> Self:
        return type(self)(*parts)

    def __repr__(self) -> str:
        return f"({f' {self.sign} '.join(map(repr, self.parts))})"


class _Product(_Combined):
    sign = "@"

    def __init__(self, outer: Operator, inner: Operator) -> None:
        self._adopt(outer, inner)
        self.in_shape, self.out_shape = inner.in_shape, outer.out_shape

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        outer, inner = self.parts
        return outer(inner(x, self._theta(inner, theta)), self._theta(outer, theta))

    def observed(self, y: Tensor) -> Tensor:
        return self.parts[0].observed(y)


class _LinearProduct(_Product, LinearOperator):
    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, f"{self!r}.adjoint")
        outer, inner = self.parts
        return inner.adjoint(outer.adjoint(y, self._theta(outer, theta)), self._theta(inner, theta))


class _Sum(_Combined):
    sign = "+"

    def __init__(self, *parts: Operator) -> None:
        self._adopt(*parts)
        self.in_shape, self.out_shape = parts[0].in_shape, parts[0].out_shape

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        first, second = self.parts
        return first(x, self._theta(first, theta)) + second(x, self._theta(second, theta))


class _LinearSum(_Sum, LinearOperator):
    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, f"{self!r}.adjoint")
        first, second = self.parts
        return first.adjoint(y, self._theta(first, theta)) + second.adjoint(y, self._theta(second, theta))


class _Multiple(_Combined):
    def __init__(self, weight: float, operator: Operator) -> None:
        self._adopt(operator)
        self.weight, self.sign = weight, "*"
        self.in_shape, self.out_shape = operator.in_shape, operator.out_shape

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return self.weight * self.parts[0](x, self._theta(self.parts[0], theta))

    def observed(self, y: Tensor) -> Tensor:
        return self.parts[0].observed(y)

    def _rebuilt(self, parts: tuple[Operator, ...]) -> Self:
        return type(self)(self.weight, *parts)

    def __repr__(self) -> str:
        return f"({self.weight} * {self.parts[0]!r})"


class _LinearMultiple(_Multiple, LinearOperator):
    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        return self.weight * self.parts[0].adjoint(y, self._theta(self.parts[0], theta))

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        if self.weight == 0:
            return b / per_sample(lam, b)
        inner = self.parts[0].solve_normal(b, lam / self.weight**2, self._theta(self.parts[0], theta))
        return inner / self.weight**2

    def pinv(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        back = self.parts[0].pinv(y, self._theta(self.parts[0], theta))
        return back / self.weight if self.weight else torch.zeros_like(back)


class _Spectral(_Combined, SVDOperator):
    """A combination of parts that are diagonal in one basis: A = V diag(r) V^T.

    `sign` is "@", "+", or "*" for `weight` times a single part.
    """

    def __init__(self, parts: tuple[Operator, ...], sign: str, weight: float = 1.0) -> None:
        self._adopt(*parts)
        self.sign, self.weight = sign, weight
        self.in_shape, self.out_shape, self.basis = parts[0].in_shape, parts[0].out_shape, self.parts[0].basis

    def _rebuilt(self, parts: tuple[Operator, ...]) -> Self:
        return type(self)(parts, self.sign, self.weight)

    def response(self, like: Tensor) -> Tensor:
        first, *rest = (part.response(like) for part in self.parts)
        if not rest:
            return self.weight * first
        return first * rest[0] if self.sign == "@" else first + rest[0]

    def observed(self, y: Tensor) -> Tensor:
        for part in () if self.sign == "+" else self.parts:
            y = part.observed(y)
        return y

    def spectrum(self, like: Tensor) -> Tensor:
        return self.response(like).abs()

    def V(self, c: Tensor) -> Tensor:
        return self.parts[0].V(c)

    def Vt(self, x: Tensor) -> Tensor:
        return self.parts[0].Vt(x)

    def U(self, c: Tensor) -> Tensor:
        return self.V(self._phase(c) * c)

    def Ut(self, y: Tensor) -> Tensor:
        return self._phase(y).conj() * self.Vt(y)

    def _phase(self, like: Tensor) -> Tensor:
        response = self.response(like)
        s = response.abs()
        return torch.where(s > 0, response / torch.where(s > 0, s, 1.0), 0.0)

    def __repr__(self) -> str:
        return f"({self.weight} * {self.parts[0]!r})" if len(self.parts) == 1 else super().__repr__()


class _Stack(_Combined):
    sign = ","

    def __init__(self, *parts: Operator) -> None:
        self._adopt(*parts)
        self.sizes = [prod(part.out_shape) for part in parts]
        self.in_shape, self.out_shape = parts[0].in_shape, (sum(self.sizes),)

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return torch.cat([part(x, self._theta(part, theta)).flatten(1) for part in self.parts], 1)

    def observed(self, y: Tensor) -> Tensor:
        pieces = zip(self.split(y), self.parts, strict=True)
        return torch.cat([part.observed(piece).flatten(1) for piece, part in pieces], 1)

    def split(self, y: Tensor) -> list[Tensor]:
        """Split a measurement [N, m] into those of the parts, [N, *out_shape] each."""
        pieces = y.split(self.sizes, 1)
        return [piece.reshape(-1, *part.out_shape) for piece, part in zip(pieces, self.parts, strict=True)]

    def __repr__(self) -> str:
        return f"Stack({', '.join(map(repr, self.parts))})"


class _LinearStack(_Stack, LinearOperator):
    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        check_shape(y, self.out_shape, "Stack.adjoint")
        zero = torch.zeros(len(y), *self.in_shape, dtype=real_dtype(y), device=y.device)
        pieces = zip(self.parts, self.split(y), strict=True)
        return sum((part.adjoint(piece, self._theta(part, theta)) for part, piece in pieces), zero)

    def solve_normal(self, b: Tensor, lam: float | Tensor, theta: Params = EMPTY) -> Tensor:
        if not _share_basis(*self.parts):
            return super().solve_normal(b, lam, theta)
        check_shape(b, self.in_shape, "Stack.solve_normal")
        first = self.parts[0]
        power = sum(part.spectrum(b).square() for part in self.parts)
        return first.V(first.Vt(b) / (power + per_sample(lam, b.flatten(1))))
