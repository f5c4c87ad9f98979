"""The recursive hash behind `invsolve.core.identity`: values are reduced to numbers, text and the bits of tensors."""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import io
import logging
import struct
import sys
import types
from collections.abc import Mapping, Set
from pathlib import PurePath
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from invsolve.core.checks import InputError
from invsolve.core.inspection import (
    OF_NO_RESULT,
    condensed,
    globals_read,
    installed,
    installed_file,
    state_of,
)

__all__ = ["Unidentified", "Walk", "join"]

_SIZE = 16
_PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, range, slice, PurePath)
_FIELDS = (types.MemberDescriptorType, types.GetSetDescriptorType, type(inspect.FullArgSpec.args))  # of named tuples
_NAMES_ALONE = (types.ModuleType, logging.Logger)
_MODULE_PARTS = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks", "training")


class Unidentified(InputError):
    """Something that determines a result and cannot be distinguished from others of its kind."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(
            f"{where} cannot be identified ({why}): if the object takes a key=, give one that changes whenever the "
            "object does; otherwise add a method identity_state() that returns everything that determines its "
            "results, or omit the checkpoint"
        )


@runtime_checkable
class _Stated(Protocol):
    """An object that defines what determines its results."""

    def identity_state(self) -> Any: ...


def join(*parts: bytes) -> bytes:
    """Hash byte strings together with their lengths."""
    joined = hashlib.blake2b(digest_size=_SIZE)
    for part in parts:
        joined.update(struct.pack("<Q", len(part)))
        joined.update(part)
    return joined.digest()


class Walk:
    """One walk: finished values keep their digest, and a value inside itself is identified by its depth."""

    def __init__(self) -> None:
        self.packages: set[str] = set()
        self._known: dict[int, bytes] = {}
        self._open: dict[int, int] = {}
        self._kept: list[Any] = []  # keeps values alive, so that no id is used twice

    def digest(self, value: Any, where: str) -> bytes:
        """The digest of any value."""
        if value is None or isinstance(value, _PLAIN):
            return self._plain(value)
        number = id(value)
        if number in self._known:
            return self._known[number]
        if number in self._open:
            return join(b"again", str(len(self._open) - self._open[number]).encode())
        self._open[number] = len(self._open)
        try:
            found = self._walked(value, where)
        except RecursionError as error:
            raise Unidentified(where, "it is nested too deeply") from error
        finally:
            del self._open[number]
        self._known[number] = found
        self._kept.append(value)
        return found

    def _plain(self, value: Any) -> bytes:
        if type(value) is float:
            return join(b"float", struct.pack("<d", value))
        if isinstance(value, PurePath):
            return join(b"path", str(value).encode(errors="surrogateescape"))
        if isinstance(value, str):
            return join(b"str", value.encode(errors="surrogatepass"))
        kind = type(value).__name__ if type(value).__module__ in ("builtins", "torch") else _name(type(value))
        if isinstance(value, enum.Enum):
            return join(b"enum", kind.encode(), value.name.encode())
        return join(kind.encode(), value if isinstance(value, bytes) else repr(value).encode())

    def _walked(self, value: Any, where: str) -> bytes:
        if isinstance(value, Tensor):
            return self._tensor(value, where)
        if isinstance(value, type):
            return self._class(value, where)
        if isinstance(value, enum.Enum):
            return join(b"enum", _name(type(value)).encode(), value.name.encode())
        if isinstance(value, _NAMES_ALONE):
            return join(b"name", getattr(value, "__name__", getattr(value, "name", "")).encode())
        if isinstance(value, nn.Module) and not isinstance(value, _Stated):
            return self._module(value, where)
        if callable(value) and (found := self._function(value, where)) is not None:
            return found
        return self._object(value, where)

    def _tensor(self, value: Tensor, where: str) -> bytes:
        value = value.detach()
        if value.is_meta:
            raise Unidentified(where, "a tensor on the meta device has no values")
        if value.layout != torch.strided:
            value = value.to_dense()
        if value.is_quantized:
            value = value.dequantize()
        value = value.resolve_conj().resolve_neg()
        head = f"{value.dtype} {list(value.shape)}".encode()
        if not value.numel():
            return join(b"tensor", head)
        flat = value.contiguous().reshape(-1).view(torch.uint8)
        flat = flat if flat.device.type == "cpu" else condensed(flat)
        return join(b"tensor", head, hashlib.sha256(flat.numpy().data).digest())

    def _class(self, kind: type, where: str) -> bytes:
        """Hash an installed class by name, and a user's class also by the code of its methods and its attributes."""
        parts = []
        for one in kind.__mro__:
            parts.append(_name(one).encode())
            if self._installed(one.__module__):
                continue
            for name, entry in sorted(vars(one).items()):
                if name in OF_NO_RESULT or isinstance(entry, _FIELDS):
                    continue
                parts += [name.encode(), self._member(entry, f"{one.__qualname__}.{name}")]
        return join(b"class", *parts)

    def _member(self, entry: Any, where: str) -> bytes:
        if isinstance(entry, property):
            return join(*(self._member(f, where) for f in (entry.fget, entry.fset) if f is not None))
        if isinstance(entry, staticmethod | classmethod):
            return join(type(entry).__name__.encode(), self._member(entry.__func__, where))
        if isinstance(entry, functools.cached_property):
            return self._member(entry.func, where)
        if isinstance(entry, types.FunctionType):
            return self._code(entry, where)
        return self.digest(entry, where)

    def _function(self, value: Any, where: str) -> bytes | None:
        """The digest of a callable; None for objects with a method `__call__`."""
        if isinstance(value, functools.partial):
            parts = {"func": value.func, "args": value.args, "keywords": value.keywords}
            return join(b"partial", *(self.digest(part, f"{where}.{name}") for name, part in parts.items()))
        if isinstance(value, types.MethodType):
            return join(b"method", self.digest(value.__self__, where), self._member(value.__func__, where))
        if isinstance(value, types.FunctionType):
            owned = self._installed(value.__module__ or "") or installed_file(value.__code__.co_filename)
            if not owned and value.__name__ == "<lambda>":
                raise Unidentified(where, "a lambda has no name of its own")
            if not owned and value.__code__.co_freevars:
                names = ", ".join(value.__code__.co_freevars)
                raise Unidentified(where, f"{value.__qualname__} is a closure over {names}")
            return self._code(value, where)
        if isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType):
            owner = getattr(value, "__self__", None)
            if owner is not None and not isinstance(owner, types.ModuleType | type):
                return join(b"builtin", value.__qualname__.encode(), self.digest(owner, where))
            module = getattr(value, "__module__", None) or getattr(owner, "__name__", "")
            return join(b"builtin", str(module).encode(), value.__qualname__.encode())
        wrapped = getattr(value, "__wrapped__", None)
        if wrapped is not None and type(value).__module__ == "functools":
            return join(b"cached", self.digest(wrapped, where))
        return None

    def _code(self, function: types.FunctionType, where: str) -> bytes:
        """Hash a function's name, defaults and variables; for a user's function also its code and what it reads."""
        parts = [_name(function).encode()]
        for part in (function.__defaults__, function.__kwdefaults__):
            parts.append(self.digest(part, f"{where}, its defaults"))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name != "__class__":
                parts += [name.encode(), self.digest(_content(cell, where), f"{where}, its variable {name}")]
        if not self._installed(function.__module__ or "") or function.__name__ == "<lambda>":
            parts.append(self._bytecode(function.__code__, where))
            for name, read in sorted(globals_read(function.__code__, function.__globals__).items()):
                parts += [name.encode(), self.digest(read, f"{where}, its global {name}")]
        return join(b"function", *parts)

    def _bytecode(self, code: types.CodeType, where: str) -> bytes:
        parts = [code.co_code, repr((code.co_names, code.co_varnames, code.co_freevars, code.co_argcount)).encode()]
        for constant in code.co_consts:
            inner = isinstance(constant, types.CodeType)
            parts.append(self._bytecode(constant, where) if inner else self.digest(constant, where))
        return join(b"code", *parts)

    def _module(self, module: nn.Module, where: str) -> bytes:
        """Hash a network's class and everything it holds, except what torch keeps for internal use."""
        module = cast(nn.Module, getattr(module, "_orig_mod", module))
        own = vars(module)
        blank = vars(nn.Module())
        state = {name: own[name] for name in _MODULE_PARTS}
        torchs = type(module).__module__.startswith("torch.")
        state |= {k: v for k, v in own.items() if k not in blank and not (torchs and k.startswith("_"))}
        return join(b"module", self.digest(type(module), where), self._named(state, where))

    def _object(self, value: Any, where: str) -> bytes:
        kind = type(value)
        if isinstance(value, _Stated):
            return join(b"object", self.digest(kind, where), self.digest(value.identity_state(), where))
        if kind.__module__ == "numpy":
            return self._numpy(value, where)
        parts = []
        if isinstance(value, Mapping):
            parts = [b"map"]
            for key, entry in value.items():
                parts += [self.digest(key, where), self.digest(entry, f"{where}[{key!r:.40}]")]
        elif isinstance(value, list | tuple):
            parts = [b"list", *(self.digest(entry, f"{where}[{i}]") for i, entry in enumerate(value))]
        elif isinstance(value, Set):
            parts = [b"set", *sorted(self.digest(entry, where) for entry in value)]
        if kind.__module__ in ("builtins", "collections") and parts:
            return join(kind.__name__.encode(), *parts)
        if isinstance(value, torch.Generator):
            return join(b"generator", self._tensor(value.get_state(), where))
        if kind.__module__ == "torch" and not hasattr(value, "__dict__"):
            return join(b"torch", repr(value).encode())  # torch.memory_format, torch.layout and similar
        state = state_of(value)
        if (state is None and not parts) or isinstance(value, io.IOBase):
            raise Unidentified(where, f"{kind.__qualname__} shows no state of its own")
        return join(b"object", self.digest(kind, where), *parts, self._named(state or {}, where))

    def _named(self, state: Any, where: str) -> bytes:
        """Hash attributes independently of their order."""
        if not isinstance(state, Mapping):
            return self.digest(state, where)
        ordered = sorted(state.items(), key=lambda entry: str(entry[0]))
        return join(b"state", *(p for k, v in ordered for p in (str(k).encode(), self.digest(v, f"{where}.{k}"))))

    def _numpy(self, value: Any, where: str) -> bytes:
        import numpy

        if isinstance(value, numpy.ndarray) and value.dtype == object:
            return join(b"objects", repr(value.shape).encode(), self.digest(value.tolist(), where))
        if isinstance(value, numpy.ndarray | numpy.generic):
            array = numpy.ascontiguousarray(value)
            return join(b"array", f"{array.dtype.str} {value.shape}".encode(), array.tobytes())
        if isinstance(value, numpy.dtype | numpy.ufunc):
            return join(b"numpy", repr(value).encode())
        raise Unidentified(where, f"{type(value).__qualname__} shows no state of its own")

    def _installed(self, module: str) -> bool:
        top = module.partition(".")[0]
        if not installed(top):
            return False
        if top not in sys.stdlib_module_names:
            self.packages.add(top)
        return True


def _name(entry: Any) -> str:
    return f"{entry.__module__}.{entry.__qualname__}"


def _content(cell: types.CellType, where: str) -> Any:
    try:
        return cell.cell_contents
    except ValueError as error:
        raise Unidentified(where, "one of its variables has no value yet") from error
