"""deepinv (>= 0.5) physics as operators: only their map, without their noise, seeds or iterative solvers."""

from __future__ import annotations

import copy
from math import prod
from typing import Any, Self

import deepinv
import torch
from deepinv.physics import DecomposablePhysics, LinearPhysics, Physics
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError, check_shape
from invsolve.core.linalg import real_dtype, row_dot, row_norm
from invsolve.core.operator import EMPTY, LinearOperator, Operator, Params, Shape
from invsolve.core.svd import SVDOperator
from invsolve.operators.adapt import measured_shape
from invsolve.operators.shapes import digest, positive_shape

__all__ = ["DeepinvLinearOperator", "DeepinvOperator", "DeepinvSVDOperator", "from_deepinv"]


def _copy(physics: Any) -> Any:
    """A deep copy; random generators are copied by their state, because `copy.deepcopy` cannot copy them."""
    memo = {}
    for generator in (v for m in physics.modules() for v in vars(m).values() if isinstance(v, torch.Generator)):
        memo[id(generator)] = torch.Generator(generator.device).set_state(generator.get_state())
    return copy.deepcopy(physics, memo)


def _cast(physics: Any, dtype: torch.dtype) -> Any:
    """`physics` with tensors in the real `dtype` or its complex one; `Module.to` would make complex tensors real."""
    for tensor in (*physics.parameters(), *physics.buffers()):
        if tensor.is_complex() or tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype.to_complex() if tensor.is_complex() else dtype)
    return physics


class _Frozen:
    """A private copy of a physics, in each precision and on each device for which it is requested."""

    def __init__(self, physics: Physics) -> None:
        physics = _copy(physics)
        physics.noise_model = torch.nn.Identity()
        physics.requires_grad_(False)
        self.original = physics.eval()
        self._cache: dict[tuple[torch.dtype, torch.device], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"original": self.original, "_cache": {}}

    def get(self, like: Tensor, theta: Params = EMPTY) -> Any:
        """The physics for inputs such as `like`; a new copy if parameters are passed, because deepinv stores them."""
        key = (real_dtype(like), like.device)
        if key not in self._cache:
            self._cache[key] = _cast(_copy(self.original).to(device=key[1]), key[0])
        physics = self._cache[key]
        missing = [name for name in theta if not hasattr(physics, name)]
        if missing:
            raise CapabilityError(f"{type(physics).__name__} of deepinv has no parameter {', '.join(missing)}")
        return _copy(physics) if theta else physics

    def chosen(self, rows: Tensor, size: int) -> _Frozen:
        """The physics for the samples `rows`, if its buffers have one entry for each of `size` samples."""
        physics = _copy(self.original)
        for tensor in (*physics.parameters(), *physics.buffers()):
            if tensor.ndim and len(tensor) == size:
                tensor.data = tensor.data[rows.to(tensor.device)]
        return _Frozen(physics)

    def __repr__(self) -> str:
        state = [v.detach().flatten().double().cpu() for v in self.original.state_dict().values() if not v.is_complex()]
        name = type(self.original).__name__
        return f"{name}:{digest(torch.cat(state))}" if state else name


class DeepinvOperator(Operator):
    """y = physics.A(x). Entries of theta are passed on by name (theta["filter"] for a blur).

    Attributes:
        recipe: a function and its arguments that create the operator again, if there is one: deepinv's own objects
            cannot be pickled.
    """

    recipe: tuple[Any, tuple[Any, ...]] | None = None

    def __reduce__(self) -> Any:
        return super().__reduce__() if self.recipe is None else self.recipe

    def __init__(self, physics: _Frozen, in_shape: Shape, out_shape: Shape, rows: int = 1) -> None:
        self.physics, self.in_shape, self.out_shape, self.rows = physics, in_shape, out_shape, rows

    def select(self, rows: Tensor) -> Self:
        if self.rows == 1:
            return self
        clone = copy.copy(self)
        clone.physics, clone.rows = self.physics.chosen(rows, self.rows), len(rows)
        return clone

    def observed(self, y: Tensor) -> Tensor:
        if not isinstance(self.physics.original, deepinv.physics.Inpainting):
            return y
        return torch.where(self.physics.get(y).mask != 0, y, 0.0)

    def forward(self, x: Tensor, theta: Params = EMPTY) -> Tensor:
        return self.physics.get(x, theta).A(x, **theta)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.physics!r}, {list(self.in_shape)} -> {list(self.out_shape)})"


class DeepinvLinearOperator(DeepinvOperator, LinearOperator):
    """A linear physics, with its own adjoint if that is the transpose of its map, and a derived one otherwise."""

    def __init__(self, physics: _Frozen, in_shape: Shape, out_shape: Shape, rows: int = 1) -> None:
        super().__init__(physics, in_shape, out_shape, rows)
        self._own_adjoint = self._adjoint_is_right()

    def adjoint(self, y: Tensor, theta: Params = EMPTY) -> Tensor:
        if not self._own_adjoint:
            return super().adjoint(y, theta)
        check_shape(y, self.out_shape, f"{type(self).__name__}.adjoint")
        return self.physics.get(y, theta).A_adjoint(y, **theta)

    def _adjoint_is_right(self) -> bool:
        physics = self.physics.original
        if not isinstance(physics, LinearPhysics) or (
            physics.A_adj is None and type(physics).A_adjoint is LinearPhysics.A_adjoint
        ):
            return False
        try:
            return all(self._transposes(dtype) for dtype in (torch.float32, torch.float64))
        except RuntimeError:  # some adjoints support only one precision
            return False

    def _transposes(self, dtype: torch.dtype) -> bool:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.rows, *self.in_shape, generator=generator).to(_device(self.physics.original), dtype)
        with torch.no_grad():
            ax = self.physics.get(x).A(x)
            y = torch.randn(ax.shape, generator=generator, dtype=ax.dtype).to(x.device)
            aty = self.physics.get(y).A_adjoint(y)
        if aty.shape != x.shape or aty.dtype != x.dtype:
            return False
        scale = row_norm(ax) * row_norm(y) + row_norm(x) * row_norm(aty)
        return bool(((row_dot(ax, y) - row_dot(x, aty)).abs() <= 1e-5 * scale).all())


class DeepinvSVDOperator(SVDOperator, DeepinvOperator):
    """A decomposable physics, A = U diag(mask) V^T, with as many coefficients as pixels."""

    def __init__(self, physics: _Frozen, in_shape: Shape, out_shape: Shape, coefficients: Shape, rows: int = 1) -> None:
        super().__init__(physics, in_shape, out_shape, rows)
        self._coefficients = coefficients

    def spectrum(self, like: Tensor) -> Tensor:
        mask = self.physics.get(like).mask  # may be boolean
        values = mask.to(real_dtype(like)).expand(self.rows, *self._coefficients).flatten(1)
        return values[0] if self.rows == 1 else values

    def V(self, c: Tensor) -> Tensor:
        return self.physics.get(c).V(c.reshape(-1, *self._coefficients))

    def Vt(self, x: Tensor) -> Tensor:
        return self.physics.get(x).V_adjoint(x).flatten(1)

    def U(self, c: Tensor) -> Tensor:
        return self.physics.get(c).U(c.reshape(-1, *self._coefficients))

    def Ut(self, y: Tensor) -> Tensor:
        c = self.physics.get(y).U_adjoint(y).flatten(1)
        return torch.where(self.spectrum(y) > 0, c, 0.0)


def _rows(physics: Any, shape: Shape, dtype: torch.dtype) -> int:
    """The number of samples for which a physics has parameters, as deepinv's generators make them; 1 if shared."""

    def measured(n: int) -> int:
        """The number of measurements of a batch of n images; 0 if the physics does not accept the batch."""
        try:
            with torch.no_grad():
                return len(physics.A(torch.zeros(1, *shape, dtype=dtype, device=_device(physics)).expand(n, *shape)))
        except Exception:  # the dry run that follows reports the error
            return 0

    made = measured(1)  # one image is broadcast over the parameters of several samples, or is refused
    leading = [] if made else [len(t) for t in (*physics.parameters(), *physics.buffers()) if t.ndim]
    return next((n for n in (made, *leading) if n > 1 and measured(n) == n), 1)


def _device(physics: Physics) -> torch.device:
    return next((t.device for t in (*physics.parameters(), *physics.buffers())), torch.device("cpu"))


def _decomposition(physics: _Frozen, in_shape: Shape, out_shape: Shape, rows: int) -> DeepinvSVDOperator | None:
    """The singular value decomposition, if the physics has one that follows the rules of `SVDOperator`; else None."""
    original: Any = physics.original
    if not isinstance(original, DecomposablePhysics):
        return None
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, *in_shape, generator=generator).to(_device(original))
    with torch.no_grad():
        c, mask = original.V_adjoint(x), torch.as_tensor(original.mask)
        real = not (c.is_complex() or mask.is_complex())
        if not real or c[0].numel() != prod(in_shape) or mask.numel() > c.numel() or bool((mask < 0).any()):
            return None
        operator = DeepinvSVDOperator(physics, in_shape, out_shape, tuple(c.shape[1:]), rows)
        s, y = operator.spectrum(x), original.A(x)
        pairs = [
            (operator.V(operator.Vt(x)), x),
            (row_norm(operator.Vt(x)), row_norm(x)),
            (operator.U(s * operator.Vt(x)), y),
            (operator.Ut(y), s * operator.Vt(x)),
        ]
    right = all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in pairs)
    return operator if right else None


def from_deepinv(physics: Physics, *, in_shape: Shape | None, linear: bool) -> Operator:
    """Convert a deepinv physics to an operator; see `invsolve.operators.as_operator`."""
    version = tuple(int(part) for part in deepinv.__version__.split(".")[:2])
    if version < (0, 5):
        raise InputError(f"deepinv 0.5 or newer is needed, found {deepinv.__version__}: pip install -U deepinv")
    name = f"{type(physics).__name__} of deepinv"
    shape = in_shape or getattr(physics, "img_size", None)
    if shape is None:
        raise InputError(f"{name} does not say its image size: give as_operator(physics, in_shape=(channels, h, w))")
    frozen, shape = _Frozen(physics), positive_shape(shape)
    linear = linear or isinstance(physics, LinearPhysics)
    dtype = next((t.dtype for t in frozen.original.buffers() if t.is_floating_point()), torch.float32)
    rows = _rows(frozen.original, shape, dtype)
    one = frozen if rows == 1 else frozen.chosen(torch.zeros(1, dtype=torch.long), rows)
    out_shape = measured_shape(one.original.A, shape, name, dtype=dtype, device=_device(physics), linear=linear)
    if not linear:
        return DeepinvOperator(frozen, shape, out_shape, rows)
    return _decomposition(frozen, shape, out_shape, rows) or DeepinvLinearOperator(frozen, shape, out_shape, rows)
