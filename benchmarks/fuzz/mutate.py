"""Ways of damaging a file, with one random generator."""

from __future__ import annotations

import struct
import zlib

import numpy as np

__all__ = ["mutant"]

_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**62, 2**64 - 1)
_WORDS = (b"[" * 3000, b'{"a":' * 2000, b"NaN", b"1e999", b"-1", b"9" * 5000, b"\x00" * 64, b"\xff" * 64, b"null")


def mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """`content` with one to four changes; half of the damaged PNG files have correct checksums."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        _change(data, rng)
    if data[:4] == b"\x89PNG" and rng.random() < 0.5:
        _mend(data)
    return bytes(data)


def _change(data: bytearray, rng: np.random.Generator) -> None:
    size = max(len(data), 1)
    # Headers matter more than pixels: half of the changes are among the first bytes.
    place = int(rng.integers(size if rng.random() < 0.5 else min(size, 300)))
    match int(rng.integers(8)):
        case 0:
            data[place : place + 1] = bytes([int(rng.integers(256))])
        case 1:
            data[place : place + 1] = bytes([(data[place] if place < len(data) else 0) ^ (1 << int(rng.integers(8)))])
        case 2:
            del data[place:]
        case 3:
            del data[place : place + int(rng.integers(1, 64))]
        case 4:
            data[place:place] = data[place : place + int(rng.integers(1, 256))]
        case 5:
            data[place:place] = _WORDS[int(rng.integers(len(_WORDS)))]
        case 6:
            start = int(rng.integers(size))
            data[place : place + 16] = data[start : start + 16]
        case _:
            form = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")[int(rng.integers(7))]
            top = (1 << 8 * struct.calcsize(form)) - 1
            value = _EXTREMES[int(rng.integers(len(_EXTREMES)))] & top
            data[place : place + struct.calcsize(form)] = struct.pack(form, value)


def _mend(data: bytearray) -> None:
    """Write correct checksums for the chunks of a PNG file, as far as the chunks can be followed."""
    place = 8
    while place + 12 <= len(data):
        end = place + 8 + struct.unpack(">I", data[place : place + 4])[0]
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
