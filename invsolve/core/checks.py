"""Errors and argument checks. A message is one sentence: what was expected, what was given and what to do."""

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
    "as_labels",
    "as_tensor",
    "as_values",
    "as_whole",
    "check_one_each",
    "check_options",
    "check_positive",
    "check_shape",
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
"""The maximum number of characters of an error message."""


class InvsolveError(Exception):
    """Base class of every error that the library raises on purpose; its message is one sentence for the user.

    Names in a message may come from foreign files. Control characters are therefore written as escapes, so that none of
    them reaches a terminal. Only the beginning and the end of a very long message are kept.
    """

    def __init__(self, message: object = "") -> None:
        text = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in str(message))
        super().__init__(text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 400]} ... {text[-400:]}")


class InputError(InvsolveError, ValueError):
    """A value that cannot be used: a file, an option, a number out of range."""


class ShapeError(InputError):
    """A tensor does not have the shape that the object expects."""


class CapabilityError(InvsolveError, TypeError):
    """A solver needs something that its problem does not provide; the message names what to use instead."""


@contextmanager
def enough_memory() -> Iterator[None]:
    """Raise one clear error when the machine or its GPU runs out of memory, whatever the original error was.

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
    """The end of an error message: the known names, and the nearest ones if any are near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return f"known: {', '.join(names)}{hint}"


@contextmanager
def needing_gradients(
    x: Tensor, what: object, remedy: str = "use SCG, or write it in torch operations"
) -> Iterator[None]:
    """Raise `CapabilityError` if a user's function converts a tensor that requires a gradient to NumPy."""
    try:
        yield
    except RuntimeError as error:
        if x.requires_grad and "numpy()" in str(error):
            raise CapabilityError(f"{what} leaves torch and so has no gradient: {remedy}") from error
        raise


def check_options(what: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raise `InputError` if an option is not known."""
    names = list(known)
    for option in options:
        if option not in names:
            raise InputError(f"{what} takes no option {option!r}; {nearest(option, names)}")


def usable_device(name: torch.device | str) -> torch.device:
    """The device with this name, after checking that a tensor can be created on it.

    Raises:
        InputError: there is no such device, or it is not available here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the device {str(name)!r} cannot be used: {reason}") from error
    return device


def require(package: str, what: str) -> None:
    """Raise `InputError` if an optional package cannot be imported; call this just before importing it."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise InputError(f"{what} needs the package {package}, pip install {package}: {error}") from error


def as_tensor(value: object, what: str) -> Tensor:
    """Return a tensor unchanged; convert an array of any strides and byte order, or a sequence of numbers.

    PyTorch itself accepts neither views that run backwards (`mask[:, ::-1]`) nor the byte order of FITS files, and has
    little support for unsigned integers above 8 bits.

    Raises:
        InputError: the value holds something other than numbers.
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
    """Convert a user's tensor or array to a detached tensor of floating point or complex values.

    Half precision becomes single precision. Integers are refused: they are counts, or images that were not divided by
    255, and only the caller knows which.

    Raises:
        InputError: the value is neither a tensor nor an array, or holds integers.
    """
    if not isinstance(value, torch.Tensor):
        if getattr(value, "__array_interface__", None) is None:
            raise InputError(f"{what} must be a tensor, got {type(value).__name__}: use torch.as_tensor(...)")
        value = as_tensor(value, what)
    if not value.is_floating_point() and not value.is_complex():
        kind = str(value.dtype).removeprefix("torch.")
        raise InputError(f"{what} holds {kind}: divide 8 bit values by 255, counts by the peak")
    value = value.detach()
    if value.dtype in (torch.float16, torch.bfloat16, torch.complex32):
        value = value.to(torch.complex64 if value.is_complex() else torch.float32)
    return usable(value)


def usable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy if it was made in `torch.inference_mode` and cannot be differentiated through."""
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        return tensor.clone()


def plain_integer(value: Any) -> Any:
    """Convert integers of NumPy and PyTorch to Python's, which print and hash alike; return anything else unchanged."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return value
    try:
        return index(value)
    except TypeError:  # a tensor that is not an integer
        return value


def whole_seed(seed: object) -> int:
    """Convert a seed to a Python integer; integers of NumPy and tensors of one integer are accepted, too.

    Raises:
        InputError: the seed is something else, for example a random generator.
    """
    number = plain_integer(seed)
    if isinstance(number, bool) or not isinstance(number, int):
        raise InputError(f"seed must be an integer, got {seed!r}: draw one from a generator, rng.integers(2**32)")
    return number


def as_whole(value: object, what: str, low: int, high: float = math.inf) -> int:
    """Convert a whole number from `low` to `high`, such as 4, 4.0 or an integer of NumPy, to a Python integer.

    Raises:
        InputError: the value is something else.
    """
    number = math.nan if isinstance(value, bool) or not isinstance(value, SupportsFloat) else float(value)
    if not low <= number <= high or number % 1 != 0:
        bounds = f"of at least {low}" if high == math.inf else f"from {low} to {high}"
        raise InputError(f"{what} must be a whole number {bounds}, got {value!r}")
    return int(number)


def as_labels(value: object, what: str) -> Tensor:
    """Convert a whole number, or one for each item [B], to a tensor of int64.

    Raises:
        InputError: the value is something else.
    """
    labels = as_tensor(value, what)
    other = labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
    if other or labels.ndim > 1 or not labels.numel():
        raise InputError(f"{what} must be a whole number or one for each image [B], got {value!r}")
    return labels.long()


def check_one_each(value: Tensor, n: int, what: str) -> None:
    """Raise `ShapeError` unless a function of a batch has returned one number for each of its n samples."""
    if tuple(value.shape) != (n,):
        raise ShapeError(
            f"{what} must return one number for each sample, shape [{n}], got {list(value.shape)}: sum over every "
            "dimension but the first"
        )


def check_shape(x: Tensor, expected: Sequence[int], what: str) -> None:
    """Raise `ShapeError` unless `x` is a batch [N, *expected]."""
    if not isinstance(x, torch.Tensor):
        raise InputError(f"{what} expects a tensor, got {type(x).__name__}: use torch.as_tensor(...)")
    if tuple(x.shape[1:]) != tuple(expected):
        wanted = ", ".join(["N", *map(str, expected)])
        raise ShapeError(f"{what} expects a batch of shape [{wanted}], got {list(x.shape)}")


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
