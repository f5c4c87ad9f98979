"""`as_operator`: turn functions, modules and deepinv physics into operators.

Four forms of the same call:

    as_operator(operator)                                an Operator is passed through
    as_operator(physics)                                 a deepinv Physics (>= 0.5), also linear or decomposable
    as_operator(f, in_shape=(3, 64, 64))                 any torch function f(x) or f(x, theta), or module
    as_operator(f, in_shape=(3, 64, 64), linear=True)    a linear one; adjoint, pseudo-inverse and solves are derived

If f(x, theta) needs its unknown parameters, give an example of them for one sample:

    as_operator(f, in_shape=(3, 64, 64), theta={"gain": torch.ones(1)})
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from invsolve.core.checks import CapabilityError, InputError, ShapeError
from invsolve.core.identity import keyed_state
from invsolve.core.inspection import takes_theta
from invsolve.core.operator import EMPTY, LinearOperator, Operator, Params, Shape
from invsolve.operators.shapes import digest, positive_shape

__all__ = ["CallableOperator", "LinearCallableOperator", "as_operator", "measured_shape"]


def as_operator(
    obj: Any,
    *,
    in_shape: Shape | None = None,
    linear: bool = False,
    theta: Params = EMPTY,
    key: str | None = None,
) -> Operator:
    """Convert `obj` to an operator.

    Args:
        obj: an Operator; a deepinv Physics, whose parameters are copied and frozen and whose noise is ignored; or a
            torch function or module, [N, *in_shape] -> [N, ...], with one argument (x) or two (x, theta).
        in_shape: shape of one sample; required for functions, and for a Physics without an `img_size`.
        linear: whether a function is linear (with A(0) = 0): the adjoint is then derived by transposition, the
            pseudo-inverse and `solve_normal` by conjugate gradients.
        theta: example values of a function's unknown parameters, without the batch dimension. Their names become the
            operator's `parameters`, and every later call needs them.
        key: a text that identifies a function in checkpoints, if it is a lambda or a closure; change it whenever the
            function changes.

    Raises:
        InputError: `in_shape` is missing, the function fails on zeros, or it is declared linear and is not.
        ShapeError: the function drops or mixes the batch dimension, or an Operator has another `in_shape`.
        CapabilityError: `obj` is none of these.
    """
    if isinstance(obj, Operator):
        if in_shape is not None and tuple(in_shape) != tuple(obj.in_shape):
            raise ShapeError(f"{obj!r} takes samples of shape {list(obj.in_shape)}, got in_shape={list(in_shape)}")
        if linear and not isinstance(obj, LinearOperator):
            raise CapabilityError(f"{obj!r} is not a LinearOperator: give its function, as_operator(f, linear=True)")
        return obj
    function: Any = obj
    if theta and not (callable(function) and takes_theta(function)):
        raise InputError(f"only a function f(x, theta) has unknown parameters, got theta for {type(obj).__name__}")
    physics = getattr(sys.modules.get("deepinv"), "physics", None)
    if physics is not None and isinstance(obj, physics.Physics):
        from invsolve.operators.deepinv import from_deepinv

        return from_deepinv(obj, in_shape=in_shape, linear=linear)
    if not callable(obj):
        raise CapabilityError(
            f"an operator must be an Operator, a deepinv Physics or a function of a batch, got {type(obj).__name__}"
        )
    if in_shape is None:
        raise InputError("as_operator needs in_shape=(channels, height, width) for a function")
    return (LinearCallableOperator if linear else CallableOperator)(function, in_shape, theta, key)


def measured_shape(
    apply: Callable[[Tensor], Any],
    in_shape: Shape,
    name: str,
    *,
    dtype: torch.dtype,
    device: torch.device,
    linear: bool,
) -> Shape:
    """The shape of one measurement, from dry runs on zeros with one and two samples."""
    shapes = []
    for n in (1, 2):
        zeros = torch.zeros(n, *in_shape, dtype=dtype, device=device)
        try:
            with torch.no_grad():
                y = apply(zeros)
        except Exception as error:
            raise InputError(f"{name} fails on a batch of zeros of shape {[n, *in_shape]}: {error}") from error
        if not isinstance(y, Tensor):
            raise InputError(f"{name} must return one tensor, [N, ...], got {type(y).__name__}")
        if linear and bool((y != 0).any()):
            raise InputError(f"{name} is declared linear, but A(0) is not 0: use linear=False, or move the offset to y")
        shapes.append(tuple(y.shape))
    one, two = shapes
    if one[:1] != (1,) or two != (2, *one[1:]):
        raise ShapeError(
            f"{name} must keep the batch dimension, [N, ...] -> [N, ...]: a batch of 1 came out as {list(one)} "
            f"and a batch of 2 as {list(two)}"
        )
    return one[1:]


def _describe(f: Callable[..., Any]) -> str:
    if isinstance(f, nn.Module):
        state = [v.detach().flatten().double().cpu() for v in f.state_dict().values() if not v.is_complex()]
        return f"{type(f).__name__}:{digest(torch.cat(state))}" if state else type(f).__name__
    return getattr(f, "__qualname__", type(f).__name__)


class CallableOperator(Operator):
    """A torch function as an operator; see `as_operator`."""

    linear: ClassVar[bool] = False

    def __init__(
        self, function: Callable[..., Any], in_shape: Shape, theta: Params = EMPTY, key: str | None = None
    ) -> None:
        self.in_shape = positive_shape(in_shape)
        self.function, self.parameters, self.key = function, tuple(theta), key
        self._takes_theta = takes_theta(function)
        tensors = [*function.parameters(), *function.buffers()] if isinstance(function, nn.Module) else []
        like = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
        name = _describe(function)

        def blank(x: Tensor) -> Tensor:
            return self.forward(x, {key: value.to(x).expand(len(x), *value.shape) for key, value in theta.items()})

        self.out_shape = measured_shape(
            blank, self.in_shape, name, dtype=like.dtype, device=like.device, linear=self.linear
        )

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        if self._takes_theta:
            missing = [name for name in self.parameters if name not in theta]
            if missing:
                raise InputError(f"{_describe(self.function)} needs theta[{missing[0]!r}], got {sorted(theta)}")
        else:
            self._no_parameters(theta)
        return self.function(x, theta) if self._takes_theta else self.function(x)

    def identity_state(self) -> dict[str, Any]:
        """The attributes that determine the measurements."""
        return keyed_state(self, "function")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_describe(self.function)}, {list(self.in_shape)} -> {list(self.out_shape)})"


class LinearCallableOperator(CallableOperator, LinearOperator):
    """A linear torch function; adjoint by transposition, pseudo-inverse and solves by conjugate gradients."""

    linear = True
