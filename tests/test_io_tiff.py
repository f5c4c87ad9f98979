"""TIFF: every way of storing the same pixels is read as the same image, what is not read is refused in a sentence."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from invsolve.core.checks import InputError
from invsolve.io import Image, read_header, read_image

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 65536, (24, 40, 3)).astype(np.uint16)
EIGHT = (DEEP >> 8).astype(np.uint8)
GREY = DEEP[..., 0].copy()


def read(folder: Path, values: Any, **options: Any) -> Image:
    tifffile.imwrite(folder / "a.tif", values, **options)
    return read_image(folder / "a.tif")


def planes(values: Any, top: float) -> np.ndarray[Any, Any]:
    values = values[..., None] if values.ndim == 2 else values
    return np.moveaxis(values, -1, 0).astype(np.float32) / np.float32(top)


STORED: dict[str, dict[str, Any]] = {
    "plain": {},
    "big-endian": {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True},
    "separate planes": {"planarconfig": "separate"},
    "tiles": {"tile": (16, 16)},
    "strips of one row": {"rowsperstrip": 1},
    "LZW with differences": {"compression": "lzw", "predictor": True},
    "deflate, planes, big-endian": {"compression": "zlib", "planarconfig": "separate", "byteorder": ">"},
    "Zstandard": {"compression": "zstd"},
    "LZMA": {"compression": "lzma"},
}


@pytest.mark.parametrize("how", STORED)
@pytest.mark.parametrize("kind", ["eight", "sixteen", "half", "single", "double"])
def test_however_they_are_stored_the_pixels_are_the_same(tmp_path: Path, how: str, kind: str) -> None:
    values, top = {
        "eight": (EIGHT, 255),
        "sixteen": (DEEP, 65535),
        "half": ((DEEP / 65535).astype(np.float16), 1),
        "single": ((DEEP / 65535).astype(np.float32), 1),
        "double": (DEEP / 65535, 1),
    }[kind]
    options = dict(STORED[how])
    if kind == "half" and options.get("predictor"):
        options["predictor"] = False
    if kind == "eight" and how == "Zstandard":
        image = read(tmp_path, np.moveaxis(values, -1, 0), photometric="rgb", planarconfig="separate", **options)
    else:
        stored = np.moveaxis(values, -1, 0) if options.get("planarconfig") == "separate" else values
        image = read(tmp_path, stored, photometric="rgb", **options)
    assert np.array_equal(image.pixels.numpy(), planes(values, top))
    assert image.alpha is None
    assert image.depth == {"eight": 8, "sixteen": 16}.get(kind, 32)
    header = read_header(tmp_path / "a.tif")
    assert (header.height, header.width, header.depth) == (24, 40, image.depth)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_white_may_be_zero(tmp_path: Path, dtype: Any, top: int) -> None:
    values = (GREY >> (0 if top > 255 else 8)).astype(dtype)
    image = read(tmp_path, top - values, photometric="miniswhite")
    assert np.allclose(image.pixels.numpy(), planes(values, top), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha"])
@pytest.mark.parametrize("channels", [1, 3])
def test_opacity_is_taken_out_of_the_colours(tmp_path: Path, dtype: Any, kind: str, channels: int) -> None:
    top, step = {np.uint8: (255, 1 / 255), np.uint16: (65535, 1 / 65535), np.float32: (1, 1e-6)}[dtype]
    alpha = np.tile(np.linspace(0.2, 1, 32), (16, 1))
    alpha[0, 0] = 0.0
    colour = np.full((16, 32, channels), 0.8) * (alpha[..., None] if kind == "assocalpha" else 1)
    stored = np.concatenate([colour, alpha[..., None]], 2) * top
    stored = (stored if top == 1 else np.round(stored)).astype(dtype)
    image = read(tmp_path, stored, photometric="rgb" if channels == 3 else "minisblack", extrasamples=[kind],
                 planarconfig="contig")  # fmt: skip
    assert image.alpha is not None
    assert np.allclose(image.alpha[0].numpy(), alpha, atol=step)
    seen = alpha > 0
    assert np.allclose(image.pixels.numpy()[:, seen], 0.8, atol=6 * step)


def test_channels_of_another_meaning_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    extra = np.concatenate([DEEP, DEEP[..., :2]], 2)
    image = read(tmp_path, extra, photometric="rgb", extrasamples=["unspecified", "unassalpha"])
    assert np.array_equal(image.pixels.numpy(), planes(DEEP, 65535))
    assert image.alpha is not None
    assert np.array_equal(image.alpha.numpy(), planes(DEEP[..., 1], 65535))
    assert "left out" in caplog.text


def test_palettes_bits_and_twelve_bit_values(tmp_path: Path) -> None:
    table = RNG.integers(0, 65536, (3, 256)).astype(np.uint16)
    image = read(tmp_path, EIGHT[..., 0], photometric="palette", colormap=table)
    assert np.allclose(image.pixels.numpy(), table[:, EIGHT[..., 0]] / 65535, atol=1e-6)
    bits = EIGHT[..., 0] > 100
    assert np.array_equal(read(tmp_path, bits, photometric="minisblack").pixels[0].numpy(), bits.astype(np.float32))
    assert np.array_equal(read(tmp_path, bits, photometric="miniswhite").pixels[0].numpy(), 1.0 - bits)
    # twelve bits, two values in three bytes: written by hand, since tifffile does not write them
    values = (GREY[:8, :8] >> 4).astype(np.uint32)
    pairs = (values[:, ::2] << 12) | values[:, 1::2]
    packed = np.stack([pairs >> 16, (pairs >> 8) & 255, pairs & 255], -1).astype(np.uint8).tobytes()
    blank = np.zeros((8, 8), np.uint16)
    tifffile.imwrite(tmp_path / "b.tif", blank, byteorder="<")
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+") as file:
        page: Any = file.pages[0]
        offset = page.dataoffsets[0]
        page.tags[258].overwrite(12)
        page.tags[279].overwrite(len(packed))
    content = bytearray((tmp_path / "b.tif").read_bytes())
    content[offset : offset + len(packed)] = packed
    (tmp_path / "b.tif").write_bytes(content)
    image = read_image(tmp_path / "b.tif")
    assert np.allclose(image.pixels[0].numpy(), values / 4095, atol=1e-6)
    assert image.depth == 16


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_mark_is_applied_once(tmp_path: Path, orientation: int) -> None:
    turn = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }[orientation]  # fmt: skip
    for values, top in ((EIGHT, 255), (DEEP, 65535)):
        image = read(tmp_path, values, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
        assert np.array_equal(image.pixels.numpy(), planes(turn(values), top))


def test_jpeg_inside_and_cmyk(tmp_path: Path) -> None:
    from PIL import Image as pillow

    smooth = np.stack(np.meshgrid(np.linspace(0, 255, 64), np.linspace(0, 255, 48)), -1)
    smooth = np.concatenate([smooth, np.full((48, 64, 1), 90.0)], 2).astype(np.uint8)
    options: dict[str, Any] = {"compression": "jpeg", "compressionargs": {"outcolorspace": "ycbcr"}}
    image = read(tmp_path, smooth, photometric="rgb", **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.is_subsampled
    assert np.abs(image.pixels.numpy() - planes(smooth, 255)).mean() < 0.01
    for packed in ("jpeg", None):
        pillow.fromarray(smooth).convert("YCbCr").save(tmp_path / "y.tif", compression=packed)
        assert np.abs(read_image(tmp_path / "y.tif").pixels.numpy() - planes(smooth, 255)).mean() < 0.01
    pillow.fromarray(smooth).convert("CMYK").save(tmp_path / "c.tif")
    assert np.abs(read_image(tmp_path / "c.tif").pixels.numpy() - planes(smooth, 255)).max() < 0.02


@pytest.mark.parametrize(
    ("values", "options", "match"),
    [
        (DEEP.astype(np.uint32), {"photometric": "rgb"}, "32 bit unsigned"),
        (GREY.astype(np.int16), {}, "signed"),
        (GREY.astype(np.complex64), {}, "another kind"),
        (EIGHT, {"photometric": "cielab"}, "L\\*a\\*b"),
        (EIGHT[..., 0], {"photometric": "cfa"}, "colour filter array"),
        (np.concatenate([DEEP, DEEP[..., :1]], 2), {"photometric": "separated"}, "16 bit CMYK"),
        (EIGHT, {"photometric": "rgb", "extratags": [(532, 5, 6, (16, 1, 235, 1) * 3, True)]}, "black and white"),
        (GREY, {"compression": "jpeg2000"}, "compressed with"),
    ],
)
def test_what_is_not_read_is_refused(tmp_path: Path, values: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        read(tmp_path, values, **options)


def test_pages_and_tags_that_are_not_applied_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        image = read(tmp_path, np.stack([DEEP, DEEP[::-1]]), photometric="rgb")
        assert np.array_equal(image.pixels.numpy(), planes(DEEP, 65535))
        assert "the first is read" in caplog.text
        read(tmp_path, GREY, extratags=[(301, 3, 256, tuple(range(256)), True)])
        assert "TransferFunction" in caplog.text


@pytest.mark.parametrize("place", ["short", "offset", "count", "missing"])
def test_pixels_outside_the_file_are_told_from_black_ones(tmp_path: Path, place: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, DEEP, photometric="rgb", rowsperstrip=8)
    if place == "short":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        with tifffile.TiffFile(path, mode="r+") as file:
            tags: Any = file.pages[0].tags  # pyright: ignore[reportAttributeAccessIssue]
            offsets = tags[273].value
            if place == "missing":
                tags[279].overwrite((0, *tags[279].value[1:]))
            elif place == "count":
                tags[279].overwrite((60_000, *tags[279].value[1:]))
            else:
                tags[273].overwrite((*offsets[:2], 2**31))
    with pytest.raises(InputError, match=r"outside the file|damaged"):
        read_image(path)
