"""What files say besides their pixels survives a restoration, for every pair of formats that can carry it."""

from __future__ import annotations

import importlib.util
import io
import logging
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as pillow
from PIL import ImageCms, ImageOps

from invsolve import InputError, restore
from invsolve.io import Image, encode_image, png, read_header, read_image, write_image
from invsolve.io.inputs import as_image

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>'
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

HEIF = importlib.util.find_spec("pillow_heif") is not None

CARRIED = {
    "png": {"exif", "xmp", "dpi", "icc", "alpha", "16 bit"},
    "tif": {"exif", "xmp", "dpi", "icc", "alpha", "16 bit"},
    "jpg": {"exif", "xmp", "dpi", "icc"},
    "webp": {"exif", "xmp", "icc", "alpha"},
    "avif": {"exif", "xmp", "icc", "alpha"},
    "bmp": {"dpi"},
    "jp2": {"alpha"},
    "tga": {"alpha"},
    "ppm": set(),
}
"""What each format that is written keeps."""


def exif(orientation: int = 6) -> pillow.Exif:
    table = pillow.Exif()
    table[0x010F], table[0x0110], table[0x8298], table[0x0112] = "Maker", "Model 1", "(c) nobody", orientation
    details = table.get_ifd(0x8769)
    details[0x9003], details[0xA002], details[0xA003] = "2024:01:02 03:04:05", 20, 12
    table.get_ifd(0x8825)[1] = "N"
    return table


def pixels(*, alpha: bool = False) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 20, 4 if alpha else 3), dtype=np.uint8)


def source(folder: Path, kind: str) -> Path:
    """A file as other programs write it, turned by its orientation mark, with everything its format can hold."""
    path = folder / f"source.{kind}"
    image = pillow.fromarray(pixels(alpha="alpha" in CARRIED[kind]))
    told = {"exif": exif().tobytes(), "xmp": XMP, "dpi": (300, 300), "icc_profile": ICC}
    if kind == "png":
        from PIL import PngImagePlugin

        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        del told["xmp"]
        image.save(path, pnginfo=text, **told)
    elif kind == "tif":
        jpeg = read_image(source(folder, "jpg"))  # Pillow writes no EXIF directory into TIFF files
        write_image(path, replace(jpeg, alpha=jpeg.pixels[:1]))
    elif kind in ("jp2", "tga", "ppm"):
        image.convert("RGBA" if "alpha" in CARRIED[kind] else "RGB").save(path)
    else:
        image.save(path, **{k: told[k] for k in told if k.split("_")[0] in CARRIED[kind]})
    return path


def said(image: Image) -> set[str]:
    """What an image that was read carries, each thing only if it is right."""
    found = set()
    if image.metadata.exif is not None:
        table = pillow.Exif()
        table.load(image.metadata.exif)
        assert table.get(0x0112) == 1
        details = table.get_ifd(0x8769)
        right = table[0x010F] == "Maker" and table[0x8298] == "(c) nobody" and table.get_ifd(0x8825)[1] == "N"
        found |= {"exif"} if right and details[0x9003] == "2024:01:02 03:04:05" else set()
    found |= {"xmp"} if image.metadata.xmp == XMP else set()
    dpi = image.metadata.dpi
    found |= {"dpi"} if dpi is not None and round(dpi[0]) == round(dpi[1]) == 300 else set()
    found |= {"icc"} if image.icc == ICC else set()
    found |= {"alpha"} if image.alpha is not None else set()
    return found | ({"16 bit"} if image.depth == 16 else set())


@pytest.mark.parametrize("target", CARRIED)
@pytest.mark.parametrize("kind", [k for k in CARRIED if k != "ppm"])
def test_what_both_formats_can_carry_survives(tmp_path: Path, kind: str, target: str) -> None:
    first = read_image(source(tmp_path, kind))
    if "exif" in CARRIED[kind]:
        assert first.size == (20, 12)  # turned once, when it was read
    assert said(first) == CARRIED[kind] - {"16 bit"}
    if first.alpha is not None and "alpha" not in CARRIED[target]:
        first = replace(first, alpha=None)
    if "16 bit" in CARRIED[kind]:
        first = replace(first, depth=16)
    second = read_image(write_image(tmp_path / f"out.{target}", first))
    assert second.size == first.size
    assert said(second) == CARRIED[kind] & CARRIED[target]


@pytest.mark.parametrize("kind", ["jpg", "tif", "png", "webp"])
@pytest.mark.parametrize("form", ['tiff:Orientation="6"', "<tiff:Orientation>6</tiff:Orientation>"])
@pytest.mark.parametrize("marked", [True, False])
def test_an_orientation_in_xmp_is_not_applied_twice(tmp_path: Path, kind: str, form: str, marked: bool) -> None:
    """Whatever a program makes of the marks of the file, it makes an image like it of the restoration."""
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + form.encode() + b"</x:xmpmeta>"
    path, image = tmp_path / f"a.{kind}", pillow.fromarray(pixels())
    told = {"exif": exif().tobytes()} if marked else {}
    if kind == "png":
        from PIL import PngImagePlugin

        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", packet.decode())
        image.save(path, pnginfo=text, **told)
    elif kind == "tif":
        image.save(path, tiffinfo={700: packet, **({0x0112: 6} if marked else {})})
    else:
        image.save(path, xmp=packet, **told)
    read = read_image(path)
    assert read.metadata.xmp is not None
    for target in ("jpg", "tif", "png", "webp"):
        made = write_image(tmp_path / f"made.{target}", read, overwrite=True)
        with pillow.open(path) as before, pillow.open(made) as after:
            assert ImageOps.exif_transpose(after).size == ImageOps.exif_transpose(before).size


def test_what_a_bigtiff_file_says_is_kept(tmp_path: Path) -> None:
    for big in (False, True):
        tags = [(0x010F, 2, 6, b"Leica\0", True), (0x8298, 2, 3, b"me\0", True)]
        path = tmp_path / f"{big}.tif"
        tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), bigtiff=big, resolution=(300, 300), extratags=tags)
        found = read_image(path).metadata
        table = pillow.Exif()
        table.load(found.exif or b"")
        assert (table[0x010F], table[0x8298]) == ("Leica", "me")
        assert found.dpi == (300, 300)


def test_a_damaged_block_in_a_png_file_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = png.with_chunks(png.encode(np.full((4, 4, 3), 7, np.uint8), None), png.chunk(b"eXIf", b"garbage"))
    (tmp_path / "bad.png").write_bytes(content)
    image = read_image(tmp_path / "bad.png")
    assert bool((image.pixels == 7 / 255).all())
    assert image.metadata.exif is None
    assert bool((as_image(pillow.open(tmp_path / "bad.png")).pixels == image.pixels).all())
    assert "left out" in caplog.text


SRGB = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
DISPLAY_P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def declaring(path: Path, *chunks: tuple[bytes, bytes], late: bool = False) -> Path:
    """A PNG file with these chunks in front of its pixels, or behind them."""
    content, added = png.encode(pixels(), None), b"".join(png.chunk(*each) for each in chunks)
    path.write_bytes(content[:-12] + added + content[-12:] if late else png.with_chunks(content, added))
    return path


DECLARED = {
    "linear": ((b"gAMA", struct.pack(">I", 100_000)),),
    "PQ": ((b"cICP", bytes([9, 16, 0, 1])),),
    "Display P3": ((b"cICP", bytes([12, 13, 0, 1])), (b"sRGB", b"\0")),
    "P3 primaries": ((b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", DISPLAY_P3)),
}


@pytest.mark.parametrize("name", DECLARED)
def test_declared_colours_of_a_png_file_are_kept(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    first = read_image(declaring(tmp_path / "a.png", *reversed(DECLARED[name])))
    made = write_image(tmp_path / "out.png", replace(first, depth=16, icc=ICC))
    content = made.read_bytes()
    places = [content.index(kind) for kind, _ in DECLARED[name]]
    assert all(png.chunk(*each) in content for each in DECLARED[name])
    assert places == sorted(places)
    assert max(places) < content.index(b"IDAT")
    assert (places[0] < content.index(b"iCCP")) is (name in ("PQ", "Display P3"))
    assert read_image(made).metadata.colours == first.metadata.colours == DECLARED[name]
    assert not caplog.text


@pytest.mark.parametrize("target", [kind for kind in CARRIED if kind != "png"])
@pytest.mark.parametrize("name", DECLARED)
def test_colours_that_a_format_cannot_declare_are_reported(
    tmp_path: Path, name: str, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    image = read_image(declaring(tmp_path / "a.png", *DECLARED[name]))
    write_image(tmp_path / f"out.{target}", image)
    assert len(caplog.records) == 1
    assert "other colours than sRGB" in caplog.text
    assert "choose .png" in caplog.text
    caplog.clear()
    write_image(tmp_path / f"profile.{target}", replace(image, icc=ICC))
    assert bool(caplog.records) is ("icc" not in CARRIED[target])  # a profile says it


@pytest.mark.parametrize(
    "chunks",
    [
        (),
        ((b"sRGB", b"\1"), (b"gAMA", struct.pack(">I", 100_000))),
        ((b"cICP", bytes([1, 13, 0, 1])),),
        ((b"gAMA", struct.pack(">I", 45_000)), (b"cHRM", SRGB)),
    ],
)
def test_srgb_is_no_reason_to_warn(
    tmp_path: Path, chunks: tuple[tuple[bytes, bytes], ...], caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / "out.jpg", read_image(declaring(tmp_path / "a.png", *chunks)))
    assert not caplog.text


def test_damaged_or_late_declarations_of_colour_are_left_out(tmp_path: Path) -> None:
    assert read_image(declaring(tmp_path / "a.png", (b"gAMA", b"\0"), (b"cICP", b""))).metadata.colours == ()
    assert read_image(declaring(tmp_path / "b.png", (b"gAMA", b"\0\1\0\0"), late=True)).metadata.colours == ()


def test_a_restoration_declares_the_colours_of_its_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = restore(declaring(tmp_path / "a.png", *DECLARED["linear"]), "denoise", noise=0.1, quality="fast")
    result.save(tmp_path / "out.png", comparison=False)
    assert read_image(tmp_path / "out.png").metadata.colours == DECLARED["linear"]
    assert "sRGB" not in caplog.text
    result.save(tmp_path / "out.jpg", comparison=False, overwrite=True)
    assert caplog.text.count("other colours than sRGB") == 1


def test_a_restoration_notes_its_software_and_size(tmp_path: Path) -> None:
    first = read_image(source(tmp_path, "jpg"))
    for kind in ("jpg", "tif", "png"):
        with pillow.open(write_image(tmp_path / f"out.{kind}", first)) as image:
            table = image.getexif()
            assert str(table[0x0131]).startswith("invsolve ")
            assert (table.get_ifd(0x8769)[0xA002], table.get_ifd(0x8769)[0xA003]) == (12, 20)


def test_a_grey_profile_never_reaches_a_colour_file() -> None:
    grey = bytearray(ICC)
    grey[16:20] = b"GRAY"
    planes = read_pixels()
    for image, kept in ((Image(planes, icc=bytes(grey)), False), (Image(planes[:1], icc=bytes(grey)), True)):
        with pillow.open(io.BytesIO(encode_image(image, "a.jpg"))) as written:
            assert ("icc_profile" in written.info) is kept


def read_pixels():
    import torch

    return torch.from_numpy(pixels()).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("kind", ["avif", "bmp", "gif", "jp2", "ppm", "tga"])
def test_what_pillow_opens_is_read(tmp_path: Path, kind: str) -> None:
    pillow.fromarray(pixels()).save(tmp_path / f"a.{kind}")
    image = read_image(tmp_path / f"a.{kind}")
    assert image.size == (12, 20)
    if kind in ("bmp", "ppm", "tga"):
        assert np.array_equal((image.pixels * 255).round().byte().permute(1, 2, 0).numpy(), pixels())


@pytest.mark.skipif(not HEIF, reason="pillow-heif is not installed: pip install 'invsolve[heif]'")
def test_photographs_of_telephones_are_read(tmp_path: Path) -> None:
    import pillow_heif

    made = pillow_heif.from_pillow(pillow.fromarray(pixels()).resize((64, 48)))
    made.info["exif"] = exif(1).tobytes()
    made.save(tmp_path / "IMG_0001.HEIC", quality=90)
    assert read_header(tmp_path / "IMG_0001.HEIC").format == "heif"
    image = read_image(tmp_path / "IMG_0001.HEIC")
    assert image.size == (48, 64)
    assert "exif" in said(image)


@pytest.mark.parametrize("brand", [b"mif1", b"msf1"])
def test_an_avif_file_of_a_container_brand_needs_no_extra(tmp_path: Path, brand: bytes) -> None:
    """Some programs write the brand of the container first, and that of AVIF among the compatible ones."""
    plain = source(tmp_path, "avif")
    content = plain.read_bytes()
    assert content[8:12] == b"avif"
    (length,) = struct.unpack(">I", content[:4])
    assert b"avif" in content[16:length]
    path = tmp_path / "container.avif"
    path.write_bytes(content[:8] + brand + content[12:])
    assert read_header(path) == read_header(plain)
    assert bool((read_image(path).pixels == read_image(plain).pixels).all())


def test_programs_are_not_called_to_decode_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n")
    with pytest.raises(InputError, match="is not an image"):
        read_image(tmp_path / "a.eps")


def test_damaged_metadata_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jpg"
    pillow.fromarray(pixels()).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with caplog.at_level(logging.WARNING):
        image = read_image(path)
    assert image.metadata.exif is None
    huge = tmp_path / "b.png"
    table = exif()
    table[0x010E] = "x" * 70_000
    pillow.fromarray(pixels()).save(huge, exif=table.tobytes())
    with caplog.at_level(logging.WARNING):
        assert read_image(huge).metadata.exif is None
    assert "more than the" in caplog.text


def test_the_quality_of_a_file_can_be_chosen() -> None:
    image = Image(read_pixels())
    for name in ("a.jpg", "a.webp", "a.avif"):
        assert len(encode_image(image, name, quality=30)) < len(encode_image(image, name, quality=95))
