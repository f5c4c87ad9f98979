"""Settings: dataclasses whose fields are checked against their annotations, and settings from a command line."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import inspect
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from invsolve.core.checks import InputError, nearest
from invsolve.core.lazy import torch

__all__ = [
    "AtLeastZero",
    "Count",
    "CountFromZero",
    "FirstTime",
    "Positive",
    "Range",
    "Ratios",
    "Share",
    "Times",
    "check_settings",
    "made_with",
    "read_setting",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The range of a number, as metadata of its annotation: `zeta: Annotated[float, Range(0, 1)]`.

    NaN and infinity are outside every range.

    Attributes:
        low, high: the bounds.
        above, below: whether the number must be strictly above `low` or strictly below `high`.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a number, or every entry of a tensor, lies in the range."""
        if isinstance(value, int | float):
            low = value > self.low if self.above else value >= self.low
            return math.isfinite(value) and low and (value < self.high if self.below else value <= self.high)
        tensor = torch.as_tensor(value)
        low = tensor > self.low if self.above else tensor >= self.low
        high = tensor < self.high if self.below else tensor <= self.high
        return bool((torch.isfinite(tensor) & low & high).all())

    def __str__(self) -> str:
        if self.low == -math.inf and self.high == math.inf:
            return ""
        if self.high == math.inf:
            return f" {'above' if self.above else 'of at least'} {self.low:g}"
        if self.low == -math.inf:
            return f" {'below' if self.below else 'of at most'} {self.high:g}"
        return f" in {'(' if self.above else '['}{self.low:g}, {self.high:g}{')' if self.below else ']'}"


Positive: TypeAlias = Annotated[float, Range(0, above=True)]
AtLeastZero: TypeAlias = Annotated[float, Range(0)]
Share: TypeAlias = Annotated[float, Range(0, 1)]
FirstTime: TypeAlias = Annotated[float, Range(0, 1, above=True)]
"""Time of the first step: 1 is noise, 0 is clean."""
Times: TypeAlias = tuple[Share, ...]
"""A decreasing grid of times."""
Ratios: TypeAlias = tuple[Positive, ...]
"""Decreasing noise-to-signal ratios."""
Count: TypeAlias = Annotated[int, Range(1)]
CountFromZero: TypeAlias = Annotated[int, Range(0)]


@cache
def _types(kind: type) -> Mapping[str, Any]:
    """The annotations of a class and its bases, without those that exist only for type checkers."""
    try:
        return get_type_hints(kind, include_extras=True)
    except NameError:
        pass
    types: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        for name, annotation in vars(base).get("__annotations__", {}).items():
            alone = type(base.__name__, (), {"__module__": base.__module__, "__annotations__": {name: annotation}})
            types.pop(name, None)
            with contextlib.suppress(NameError):
                types |= get_type_hints(alone, localns=dict(vars(base)), include_extras=True)
    return types


def check_settings(settings: Any) -> None:
    """Check the fields of a dataclass against their annotations; call this when it is created.

    A `Literal` holds one of its values, an `int` a whole number, a `float` a finite number, and a `Range` limits
    either. Unions, tuples, functions and classes are checked, too. Values are converted so that equal settings look the
    same: a list (as in TOML) becomes a tuple, a number of NumPy becomes one of Python, and a whole number becomes a
    float if the field is a float.

    Raises:
        InputError: a field holds an invalid value; the message names the field.
    """
    if not dataclasses.is_dataclass(settings):
        raise InputError(f"{type(settings).__name__} must be a dataclass: decorate it with @dataclass(frozen=True)")
    types = _types(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        found = _checked(value, types.get(field.name, Any))
        if isinstance(found, _Wrong):
            raise InputError(f"{field.name} {found.expected}, got {value!r}")
        if found is not value:
            object.__setattr__(settings, field.name, found)


def made_with(kind: type[T], settings: Mapping[str, Any], what: str) -> T:
    """Create `kind(**settings)`, a dataclass of settings.

    Raises:
        InputError: a setting does not exist (the message suggests the nearest names) or does not pass its checks.
    """
    known = [field.name for field in dataclasses.fields(kind)]  # pyright: ignore[reportArgumentType]
    for name in settings:
        if name not in known:
            raise InputError(f"{what} has no setting {name!r}; {nearest(name, known)}")
    return kind(**settings)


@dataclass(frozen=True)
class _Wrong:
    """A failed check: what was expected, as the end of a sentence."""

    expected: str


def _checked(value: Any, kind: Any, bounds: Range | None = None) -> Any:
    """The value converted to what the annotation asks for, or what is wrong with it."""
    if kind is Any:
        return value
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _checked(value, args[0], next((extra for extra in args[1:] if isinstance(extra, Range)), bounds))
    if origin in (Union, UnionType):
        return _one_of(value, args, bounds)
    if origin is Literal:
        plain = _plain(value)
        known = any(type(plain) is type(word) and plain == word for word in args)
        return plain if known else _Wrong(f"must be one of {args}")
    if isinstance(value, list):
        value = tuple(value)
    if origin is tuple:
        return _tuple(value, args)
    if kind in (int, float, bool):
        return _number(value, kind, bounds or Range())
    if origin is collections.abc.Callable:
        return value if callable(value) else _Wrong("must be a function")
    if isinstance(kind, type) and not isinstance(value, kind):
        return _Wrong("must be None" if kind is NoneType else f"must be a {_described(kind)}")
    if bounds is not None and isinstance(value, torch.Tensor) and not bounds.holds(value):
        return _Wrong(f"must be finite numbers{bounds}")
    return value


def _one_of(value: Any, kinds: tuple[Any, ...], bounds: Range | None) -> Any:
    """The value for the first kind that accepts it unchanged, else for the first that accepts it converted."""
    found = [_checked(value, kind, bounds) for kind in kinds]
    right = [one for one in found if not isinstance(one, _Wrong)]
    same = [one for one in right if one is value]
    if right:
        return (same or right)[0]
    told = [one.expected.removeprefix("must be ") for one in found if one.expected != "must be None"]
    return _Wrong("must be " + " or ".join(dict.fromkeys(told)) + (" or None" if NoneType in kinds else ""))


def _tuple(value: Any, kinds: tuple[Any, ...]) -> Any:
    """A tuple whose entries are of the given kinds, or all of one kind if an ellipsis follows it."""
    repeated = len(kinds) == 2 and kinds[1] is Ellipsis
    wanted = "numbers" if repeated else f"{len(kinds)} numbers"
    if not isinstance(value, tuple) or not (repeated or len(value) == len(kinds)):
        return _Wrong(f"must be a tuple of {wanted}")
    each = kinds[:1] * len(value) if repeated else kinds
    found = [_checked(one, kind) for one, kind in zip(value, each, strict=True)]
    wrong = next((one for one in found if isinstance(one, _Wrong)), None)
    if wrong is not None:
        return _Wrong(f"must be a tuple of {wanted}, each {wrong.expected.removeprefix('must be ')}")
    return value if all(a is b for a, b in zip(found, value, strict=True)) else tuple(found)


def _number(value: Any, kind: Any, bounds: Range) -> Any:
    """A Python number in the range."""
    plain = _plain(value)
    if kind is bool:
        return plain if isinstance(plain, bool) else _Wrong("must be True or False")
    name = "whole number" if kind is int else "finite number"
    numbers: Any = Integral if kind is int else Real
    right = isinstance(plain, numbers) and not isinstance(plain, bool)
    if not right or not bounds.holds(plain):
        return _Wrong(f"must be a {name}{bounds}")
    return plain if type(plain) is kind else kind(plain)


def _described(kind: type) -> str:
    """The name of a class, with examples if it is abstract."""
    names = [sub.__name__ for sub in kind.__subclasses__()] if inspect.isabstract(kind) else []
    return f"{kind.__name__} such as {' or '.join(sorted(names)[:2])}" if names else kind.__name__


def _plain(value: Any) -> Any:
    """Convert a NumPy or torch value without dimensions to a Python value; return anything else unchanged."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def read_setting(text: str, example: str, form: str = "NAME=VALUE", flag: str = "--set") -> tuple[str, Any]:
    """Split "NAME=VALUE" and read the value as TOML would; bare words are text, but True and False are not.

    Raises:
        InputError: there is no "=", or nothing before it; the message shows `form` and `example`.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"{flag} takes {form}, for example {example}, got {text!r}")
    try:
        return name, tomllib.loads(f"value = {value.lower() if value in ('True', 'False') else value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value
