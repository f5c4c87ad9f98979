"""Read pickles as data: the file cannot import or call anything.

A pickle is a program for a stack machine. The machine here supports containers, numbers and texts. If the program calls
something, a `Record` of the call is stored in place of its result. Tensors and arrays are then built from the records
that describe them, and checked against the available bytes.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from mmap import mmap
from typing import IO, Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from invsolve.core.checks import InputError

__all__ = ["Name", "Record", "array_of", "read_pickle", "table_of", "tensor_of"]

MAX_STEPS = 2_000_000
"""Largest number of instructions in a pickle; the largest published networks have some hundred thousand."""

_STORAGES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16,
    "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_PARAMETER = ("torch._utils._rebuild_parameter",)
_TENSOR = ("torch._utils._rebuild_tensor_v2",)
_STORAGE = ("torch.storage._load_from_bytes",)
_ARRAY = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_SCALAR = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class Name:
    """The name of an object that a pickle imports."""

    text: str


@dataclass(eq=False)
class Record:
    """A call in a pickle: the function, its arguments, and the values that are then put into the result.

    Attributes:
        function: the called object, usually a `Name`.
        args: arguments of the call.
        state: the state given to the result by BUILD.
        entries: entries put into the result as a dictionary, or (numbered) as a list.
    """

    function: Any
    args: Any
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the called object."""
        return self.function.text if isinstance(self.function, Name) else ""


def table_of(value: Any) -> Mapping[Any, Any]:
    """A dictionary, or the dictionary entries of a record; empty for anything else."""
    if isinstance(value, Record):
        return value.entries or (value.state if isinstance(value.state, dict) else {})
    return value if isinstance(value, Mapping) else {}


def read_pickle(file: BinaryIO | mmap) -> Any:
    """Read a pickle from the current position of `file` to the pickle's end.

    Raises:
        InputError: the pickle is damaged, or uses an instruction that no weight file needs.
        ValueError, IndexError, KeyError, TypeError: the pickle is damaged in another way; see `foreign`.
    """
    machine = _Machine()
    for steps, (opcode, argument, _) in enumerate(pickletools.genops(cast("IO[bytes]", file))):
        if steps > MAX_STEPS:
            raise InputError(f"a pickle of more than {MAX_STEPS} instructions is not a network")
        if opcode.name == "STOP":
            return machine.stack.pop()
        machine.step(opcode.name, argument)
    raise InputError("the pickle ends early")


class _Machine:
    """The stack of a pickle, the stacks below the marks, and its memory."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memory: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Execute one instruction."""
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _VALUES:
            stack.append(argument)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memory[len(self.memory) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memory[argument])
        elif name == "MARK":
            self.below.append(stack)
            self.stack = []
        elif name in ("POP", "POP_MARK", "DUP"):
            self._shift(name)
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LIST", "DICT", "FROZENSET"):
            self._gather(name)
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"):
            self._fill(name)
        elif name not in ("PROTO", "FRAME"):
            self._call(name, argument)

    def _marked(self) -> list[Any]:
        """Remove and return the values above the last mark."""
        found, self.stack = self.stack, self.below.pop()
        return found

    def _shift(self, name: str) -> None:
        if name == "DUP":
            self.stack.append(self.stack[-1])
        elif name == "POP_MARK" or not self.stack:
            self._marked()
        else:
            self.stack.pop()

    def _gather(self, name: str) -> None:
        if name[-1].isdigit():
            n = int(name[-1])
            found = self.stack[-n:]
            if len(found) < n:
                raise InputError("the pickle takes more from its stack than there is")
            del self.stack[-n:]
        else:
            found = self._marked()
        if name == "DICT":
            self.stack.append(dict(zip(found[::2], found[1::2], strict=True)))
        else:
            self.stack.append({"LIST": list, "FROZENSET": frozenset}.get(name, tuple)(found))

    def _fill(self, name: str) -> None:
        count = {"APPEND": 1, "SETITEM": 2}.get(name)
        found = self._marked() if count is None else [self.stack.pop() for _ in range(count)][::-1]
        target = self.stack[-1]
        if name.startswith("SETITEM"):
            entries = target.entries if isinstance(target, Record) else target
            if not isinstance(entries, dict):
                raise InputError("the pickle adds entries to an object that is not a dictionary")
            entries.update(zip(found[::2], found[1::2], strict=True))
        elif isinstance(target, Record):
            target.entries.update(enumerate(found, len(target.entries)))
        elif isinstance(target, list | set):
            (target.update if isinstance(target, set) else target.extend)(found)
        else:
            raise InputError("the pickle adds elements to an object that is not a list")

    def _call(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "GLOBAL":
                stack.append(Name(".".join(argument.split(" ", 1))))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(Name(f"{module}.{attribute}"))
            case "REDUCE" | "NEWOBJ":
                args = stack.pop()
                stack.append(Record(stack.pop(), args))
            case "NEWOBJ_EX":
                words, args = stack.pop(), stack.pop()
                stack.append(Record(stack.pop(), args, words))
            case "OBJ":
                found = self._marked()
                self.stack.append(Record(found[0], tuple(found[1:])))
            case "INST":
                found = self._marked()
                self.stack.append(Record(Name(".".join(argument.split(" ", 1))), tuple(found)))
            case "BUILD":
                state = stack.pop()
                if not isinstance(stack[-1], Record):
                    raise InputError("the pickle tries to change an object that it did not create")
                stack[-1].state = state
            case "BINPERSID":
                stack.append(Record(Name("persistent"), stack.pop()))
            case _:
                raise InputError(f"the pickle uses {name}, which no weight file needs")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_VALUES = {
    "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip


def tensor_of(value: Any) -> Tensor | None:
    """The tensor that a record describes; None for anything else.

    Raises:
        InputError: the tensor exceeds its bytes in the file, or is of an unknown kind.
    """
    if isinstance(value, Record) and value.name in _PARAMETER:
        return tensor_of(value.args[0])
    if not isinstance(value, Record) or value.name not in _TENSOR:
        return None
    storage, offset, size, stride = value.args[:4]
    values = _storage(storage)
    shape, steps = _sizes(size), _sizes(stride)
    if len(shape) != len(steps) or len(shape) > _MAX_DIMENSIONS or _sizes((offset,)) != (offset,):
        raise InputError(f"a tensor of shape {shape} with strides {steps} is impossible")
    last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if prod(shape) and (last >= len(values) or prod(shape) > len(values)):
        raise InputError(f"a tensor of shape {shape} reaches beyond its {len(values)} values in the file")
    return torch.as_strided(values, shape, steps, offset) if prod(shape) else values.new_empty(shape)


def _sizes(values: Any) -> tuple[int, ...]:
    if isinstance(values, Record):  # torch.Size
        values = values.args[0] if isinstance(values.args, tuple) and values.args else ()
    if not isinstance(values, tuple | list) or not all(type(v) is int and 0 <= v < 2**48 for v in values):
        raise InputError("a tensor has an invalid shape")
    return tuple(values)


def _storage(value: Any) -> Tensor:
    """The values of a tensor's storage, in one dimension, from the bytes that torch writes into a pickle."""
    if not isinstance(value, Record) or value.name not in _STORAGE or not isinstance(value.args[0], bytes):
        raise InputError("a tensor lies outside the file, or has an unknown format")
    file = io.BytesIO(value.args[0])
    _, _, system, described, keys = (read_pickle(file) for _ in range(5))
    if table_of(system).get("little_endian") is not True:
        raise InputError("the tensors are not stored in little-endian order")
    if not isinstance(described, Record) or described.name != "persistent" or len(keys) != 1:
        raise InputError("a tensor's storage is described in an unknown format")
    kind = described.args[1]
    dtype = _STORAGES.get(kind.text.removeprefix("torch.") if isinstance(kind, Name) else "")
    if dtype is None:
        raise InputError(f"a tensor has the unsupported type {getattr(kind, 'text', kind)!r:.60}")
    count, rest = int.from_bytes(file.read(8), "little"), len(value.args[0]) - file.tell()
    if not 0 <= count * dtype.itemsize <= rest:
        raise InputError(f"a tensor's storage of {count} values is truncated: only {rest} bytes are left")
    return torch.frombuffer(bytearray(file.read(count * dtype.itemsize)), dtype=dtype) if count else torch.empty(0)


def array_of(value: Any) -> np.ndarray[Any, Any] | None:
    """The array of numbers that a record describes; None for anything else.

    Raises:
        InputError: the array does not contain plain numbers, or their count does not match its shape.
    """
    if not isinstance(value, Record) or value.name not in (*_ARRAY, *_SCALAR):
        return None
    if value.name in _SCALAR:
        kind, content = value.args
        shape, fortran = (), False
    else:
        _, shape, kind, fortran, content = value.state
    dtype = _dtype(kind)
    if isinstance(content, Record) and content.name == "_codecs.encode":
        content = content.args[0].encode("latin-1")
    if not isinstance(content, bytes) or len(content) != prod(_sizes(shape)) * dtype.itemsize:
        raise InputError(f"an array of shape {shape!r:.60} does not fit the bytes that the file has for it")
    return np.frombuffer(content, dtype).reshape(_sizes(shape), order="F" if fortran else "C")


def _dtype(kind: Any) -> np.dtype[Any]:
    code = kind.args[0] if isinstance(kind, Record) and kind.name == "numpy.dtype" else ""
    known = {f"{k}{n}" for k in "fiu" for n in (1, 2, 4, 8)} - {"f1"} | {"b1"}
    if code not in known:
        raise InputError("an array that does not hold plain numbers cannot be read")
    order = kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "="
    return np.dtype(code).newbyteorder(order if order in ("<", ">") else "=")
