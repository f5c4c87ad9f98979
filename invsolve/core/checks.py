"""Errors and argument checks: one sentence with what was expected, what came and what to do."""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import index
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex

from invsolve.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CapabilityError",
    "InputError",
    "InvsolveError",
    "ShapeError",
    "as_tensor",
    "as_values",
    "check_options",
    "check_positive",
    "check_shape",
    "check_share",
    "enough_memory",
    "nearest",
    "needing_gradients",
    "plain_integer",
    "require",
    "usable",
    "usable_device",
    "whole_seed",
]

MAX_MESSAGE = 1600
"""Characters of an error message."""


class InvsolveError(Exception):
    """Base of every error the library raises on purpose; its message is one sentence for the user.

    Names in a message may come from foreign files: control characters are written as escapes, so that none of them
    reaches a terminal, and of a very long message the beginning and the end are kept.
    """

    def __init__(self, message: object = "") -> None:
        text = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in str(message))
        super().__init__(text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 400]} ... {text[-400:]}")


class InputError(InvsolveError, ValueError):
    """A value that cannot be used: a file, an option, a number out of range."""


class ShapeError(InputError):
    """A tensor of another shape than the object was built for."""


class CapabilityError(InvsolveError, TypeError):
    """A solver was asked for something its problem cannot offer; the message names what to use instead."""


@contextmanager
def enough_memory() -> Iterator[None]:
    """Say in one sentence that a machine or its GPU ran out of memory, however that is told.

    Raises:
        InvsolveError: the memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = ("can't allocate memory", "not enough memory", "bad_alloc", "Cannot allocate memory")
        of_device = isinstance(error, torch.OutOfMemoryError)
        if not of_device and not isinstance(error, MemoryError) and not any(words in str(error) for words in known):
            raise
        where = "the device" if of_device else "the machine"
        raise InvsolveError(
            f"{where} ran out of memory: give a smaller --memory (GiB) or --tile (pixels), or smaller images"
        ) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the known names, nearest first where one is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return f"known: {', '.join(names)}{hint}"


@contextmanager
def needing_gradients(
    x: Tensor, what: object, remedy: str = "use SCG, or write it in torch operations"
) -> Iterator[None]:
    """Turn what PyTorch says where somebody's function converts a tensor of a graph to NumPy into `CapabilityError`."""
    try:
        yield
    except RuntimeError as error:
        if x.requires_grad and "numpy()" in str(error):
            raise CapabilityError(f"{what} leaves torch and so has no gradient: {remedy}") from error
        raise


def check_options(what: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raise `InputError` if there is an option that is not known."""
    names = list(known)
    for option in options:
        if option not in names:
            raise InputError(f"{what} takes no option {option!r}; {nearest(option, names)}")


def usable_device(name: torch.device | str) -> torch.device:
    """The device of a name, on which a tensor could be made.

    Raises:
        InputError: there is no such device, or none of its kind here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the device {str(name)!r} cannot be used: {reason}") from error
    return device


def require(package: str, what: str) -> None:
    """Raise `InputError` where a package that only some parts need cannot be imported; called just before it is."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise InputError(f"{what} needs the package {package}, pip install {package}: {error}") from error


def as_tensor(value: object, what: str) -> Tensor:
    """A tensor as it is; an array of any strides and byte order, or a sequence of numbers, as a tensor of its own.

    PyTorch itself takes neither views that run backwards (`mask[:, ::-1]`) nor the byte order of FITS files, and knows
    little of unsigned integers above 8 bits.

    Raises:
        InputError: it holds something else than numbers.
    """
    if isinstance(value, torch.Tensor):
        return value
    import numpy

    try:
        array = numpy.asarray(value)
        array = array.astype(array.dtype.newbyteorder("="), order="C")
        return torch.from_numpy(array.astype(numpy.int64) if array.dtype in (numpy.uint32, numpy.uint64) else array)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must hold numbers, in rows of equal length: {error}") from error


def as_values(value: object, what: str) -> Tensor:
    """What a user calls a tensor, as one that a run can use: of floating point or complex values, outside of any graph.

    An array becomes a tensor, half precision becomes single. Integers are refused: they are counts, or images that have
    not been divided by 255, and only the caller knows which.

    Raises:
        InputError: it is neither a tensor nor an array, or holds integers.
    """
    if not isinstance(value, torch.Tensor):
        if getattr(value, "__array_interface__", None) is None:
            raise InputError(f"{what} must be a tensor, got {type(value).__name__}: torch.as_tensor(...) makes one")
        value = as_tensor(value, what)
    if not value.is_floating_point() and not value.is_complex():
        kind = str(value.dtype).removeprefix("torch.")
        raise InputError(f"{what} holds {kind}: divide 8 bit values by 255, counts by the peak")
    value = value.detach()
    if value.dtype in (torch.float16, torch.bfloat16, torch.complex32):
        value = value.to(torch.complex64 if value.is_complex() else torch.float32)
    return usable(value)


def usable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy where it was made in `torch.inference_mode` and could not be differentiated through."""
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        return tensor.clone()


def plain_integer(value: Any) -> Any:
    """Integers of NumPy and PyTorch as those of Python, which are written and hashed alike; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return value
    try:
        return index(value)
    except TypeError:  # a tensor that is no integer
        return value


def whole_seed(seed: object) -> int:
    """A seed as an integer of Python: those of NumPy and tensors of one integer are taken, too.

    Raises:
        InputError: it is something else, a random generator for example.
    """
    if isinstance(seed, bool) or not isinstance(seed, SupportsIndex):
        raise InputError(f"seed must be an integer, got {seed!r}: draw one from a generator, rng.integers(2**32)")
    try:
        return index(seed)
    except TypeError as error:
        raise InputError(f"seed must be an integer, got {seed!r}") from error


def check_shape(x: Tensor, expected: Sequence[int], what: str) -> None:
    """Raise `ShapeError` unless `x` is a batch [N, *expected]."""
    if not isinstance(x, torch.Tensor):
        raise InputError(f"{what} expects a tensor, got {type(x).__name__}: torch.as_tensor(...) makes one")
    if tuple(x.shape[1:]) != tuple(expected):
        wanted = ", ".join(["N", *map(str, expected)])
        raise ShapeError(f"{what} expects a batch of shape [{wanted}], got {list(x.shape)}")


def check_share(value: float, what: str) -> None:
    """Raise `InputError` unless the number lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise InputError(f"{what} lies in [0, 1], got {value}")


def check_positive(value: float | Tensor, what: str, *, zero: bool = False) -> None:
    """Raise `InputError` unless every entry is a finite number > 0 (>= 0 with `zero`)."""
    if not isinstance(value, SupportsFloat):
        raise InputError(f"{what} must be a number, got {value!r}")
    if isinstance(value, int | float):
        good = math.isfinite(value) and (value >= 0 if zero else value > 0)
    else:
        tensor = torch.as_tensor(value)
        good = bool((torch.isfinite(tensor) & ((tensor >= 0) if zero else (tensor > 0))).all())
    if not good:
        bound = "at least 0" if zero else "above 0"
        raise InputError(f"{what} must be finite and {bound}, got {value}")
