"""Image files: every kind comes back as it was written, and no broken file gets in."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as pillow

from invsolve.core.checks import InputError
from invsolve.io import Image, read_header, read_image, write_files, write_image
from invsolve.io.image import eight_bits, middle
from invsolve.io.png import chunk as png_chunk

_STEPS = {8: 255, 16: 65535, 32: 1}


def _image(
    channels: int, depth: int, *, alpha: bool = False, form: str = "png", size: tuple[int, int] = (37, 53)
) -> Image:
    rng = np.random.default_rng(channels + depth)
    steps = _STEPS[depth]
    planes = rng.random((channels + alpha, *size), dtype=np.float32)
    if depth < 32:
        planes = (np.rint(planes * steps) / steps).astype(np.float32)
    tensor = torch.from_numpy(planes)
    return Image(tensor[:channels], tensor[channels:] if alpha else None, depth, form)


def _same(a: Image, b: Image) -> bool:
    alphas = (a.alpha is None and b.alpha is None) or (
        a.alpha is not None and b.alpha is not None and torch.equal(a.alpha, b.alpha)
    )
    return torch.equal(a.pixels, b.pixels) and alphas and a.depth == b.depth and a.icc == b.icc


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("suffix", "depth"), [(".png", 8), (".png", 16), (".tif", 8), (".tiff", 16), (".tif", 32), (".webp", 8)]
)
def test_lossless_kinds_come_back_bit_for_bit(
    tmp_path: Path, suffix: str, depth: int, channels: int, alpha: bool
) -> None:
    image = _image(channels, depth, alpha=alpha)
    back = read_image(write_image(tmp_path / f"a{suffix}", image))
    assert back.depth == depth
    if len(back.pixels) != channels:  # WebP knows no grey, deep TIFF no grey with opacity: colour with equal channels
        assert suffix == ".webp" or (suffix in (".tif", ".tiff") and alpha and depth > 8)
        image = Image(image.pixels.expand(3, -1, -1), image.alpha, depth, image.format)
    assert _same(image, back)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_comes_back_nearly(tmp_path: Path, channels: int) -> None:
    ramp = torch.linspace(0, 1, 64).expand(channels, 48, 64).contiguous()
    back = read_image(write_image(tmp_path / "a.jpg", Image(ramp)))
    assert back.format == "jpeg"
    assert back.pixels.shape == ramp.shape
    assert (back.pixels - ramp).abs().max() < 0.03


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("depth", [8, 16])
def test_colour_profile_is_kept(tmp_path: Path, suffix: str, depth: int) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = _image(3, depth)
    image = Image(image.pixels, None, depth, "png", profile)
    assert read_image(write_image(tmp_path / f"a{suffix}", image)).icc == profile


@pytest.mark.parametrize("depth", [16, 32])
def test_other_programs_read_our_deep_files(tmp_path: Path, depth: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    image = _image(3, depth, alpha=True)
    write_image(tmp_path / "a.tif", image)
    values = tifffile.imread(tmp_path / "a.tif")
    assert image.alpha is not None
    expected = torch.cat([image.pixels, image.alpha]).permute(1, 2, 0).numpy()
    assert np.array_equal(values.astype(np.float32) / np.float32(_STEPS[depth]), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png16"])
def test_orientation_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = (255, 0, 0)
    upright[:8, 16:] = (0, 255, 0)
    undo = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    stored = np.ascontiguousarray(undo[orientation](upright))
    exif = pillow.Exif()
    exif[0x0112] = orientation
    if kind == "jpg":
        path = tmp_path / "a.jpg"
        pillow.fromarray(stored).save(path, quality=100, subsampling=0, exif=exif)
    else:
        path = tmp_path / "a.png"
        write_image(path, Image(torch.from_numpy(stored).permute(2, 0, 1) / 255.0, None, 16))
        data = path.read_bytes()
        path.write_bytes(data[:33] + png_chunk(b"eXIf", exif.tobytes()[6:]) + data[33:])
    image = read_image(path)
    assert image.pixels.shape == (3, 16, 24)
    assert (image.pixels - torch.from_numpy(upright).permute(2, 0, 1) / 255.0).abs().max() < 0.1


@pytest.mark.parametrize("suffix", ["png", "webp", "gif"])
def test_only_the_first_frame_of_an_animation_is_read_and_a_warning_says_so(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [pillow.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for count in (1, 2):
        path = tmp_path / f"{count}.{suffix}"
        told = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(path, save_all=True, append_images=frames[1:count], **told)
        assert read_image(path).pixels[:, 0, 0].tolist() == [1, 0, 0]
        assert [record.getMessage() for record in caplog.records] == [
            f"{path} holds several images: the first is read"
        ] * (count - 1)


def test_palette_cmyk_and_one_bit_images_become_ordinary_ones(tmp_path: Path) -> None:
    colours = pillow.fromarray((_image(3, 8).pixels.permute(1, 2, 0).numpy() * 255).astype(np.uint8))
    colours.convert("P", palette=pillow.Palette.ADAPTIVE).save(tmp_path / "p.png")
    colours.convert("P").save(tmp_path / "t.png", transparency=3)
    colours.convert("1").save(tmp_path / "one.png")
    colours.convert("CMYK").save(tmp_path / "c.jpg")
    colours.convert("P").save(tmp_path / "p.tif")
    shapes = {name: read_image(tmp_path / name) for name in ("p.png", "t.png", "one.png", "c.jpg", "p.tif")}
    assert {name: len(p.pixels) for name, p in shapes.items()} == {
        "p.png": 3,
        "t.png": 3,
        "one.png": 1,
        "c.jpg": 3,
        "p.tif": 3,
    }
    assert [name for name, p in shapes.items() if p.alpha is not None] == ["t.png"]


@pytest.mark.parametrize("name", ["a.pgm", "plain.pgm", "twelve.pgm", "a.jp2"])
def test_grey_of_more_than_eight_bits_keeps_its_values(tmp_path: Path, name: str) -> None:
    top = 4095 if name == "twelve.pgm" else 65535
    values = np.random.default_rng(0).integers(0, top + 1, (12, 20)).astype(np.uint16)
    head = f"{'P2' if name == 'plain.pgm' else 'P5'}\n20 12\n{top}\n".encode()
    if name == "plain.pgm":
        (tmp_path / name).write_bytes(head + " ".join(map(str, values.flatten())).encode())
    elif name == "a.jp2":
        pillow.fromarray(values).save(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(head + values.astype(">u2").tobytes())
    image = read_image(tmp_path / name)
    assert image.depth == 16
    np.testing.assert_allclose(image.pixels[0], values / top, atol=1e-4)


def test_floating_point_grey_keeps_its_values_and_their_check(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((12, 20)).astype("<f4")
    (tmp_path / "a.pfm").write_bytes(b"Pf\n20 12\n-1.0\n" + values[::-1].tobytes())
    image = read_image(tmp_path / "a.pfm")
    assert image.depth == 32
    np.testing.assert_array_equal(image.pixels[0], values)
    (tmp_path / "b.pfm").write_bytes(b"Pf\n20 12\n-1.0\n" + (255 * values).tobytes())
    with pytest.raises(InputError, match="scale it to"):
        read_image(tmp_path / "b.pfm")


def test_a_image_of_one_pixel_is_a_image(tmp_path: Path) -> None:
    for depth in (8, 16):
        back = read_image(write_image(tmp_path / f"{depth}.png", _image(3, depth, size=(1, 1))))
        assert back.size == (1, 1)


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    pillow.fromarray(values).save(buffer, "JPEG")
    return buffer.getvalue()


def _encoded(suffix: str, depth: int, folder: Path) -> bytes:
    path = write_image(folder / f"whole{suffix}", _image(3, depth))
    return path.read_bytes()


def test_broken_files_are_refused_with_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jpeg = _jpeg()
    whole = {
        "deep.png": _encoded(".png", 16, tmp_path), "eight.png": (lambda p: p)(_encoded(".tif", 16, tmp_path)),
    }  # fmt: skip
    cases = {
        "text.png": b"this is no image\n" * 9,
        "empty.jpg": b"",
        "half.jpg": jpeg[: len(jpeg) // 2],
        "tail.jpg": jpeg[:-20],
        "head.jpg": jpeg[:40],
        "half.png": whole["deep.png"][: len(whole["deep.png"]) // 2],
        "tail.png": whole["deep.png"][:-3],
        "half.tif": whole["eight.png"][: len(whole["eight.png"]) // 2],
        "mark.tif": b"II*\0",
        "mark.png": b"\x89PNG\r\n\x1a\n",
        "mark.webp": b"RIFF\0\0\0\0WEBP",
        "gif.png": b"GIF89a" + b"\0" * 40,
    }
    flipped = bytearray(whole["deep.png"])
    flipped[len(flipped) // 2] ^= 255
    cases["flipped.png"] = bytes(flipped)
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_image(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(InputError):
            read_image(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 200.0])
def test_floating_point_values_that_are_no_pixels_are_refused(tmp_path: Path, value: float) -> None:
    cv2 = pytest.importorskip("cv2")
    values = np.full((9, 9, 3), 0.5, np.float32)
    values[4, 4, 0] = value
    (tmp_path / "a.tif").write_bytes(cv2.imencode(".tif", values)[1].tobytes())
    with pytest.raises(InputError, match=r"NaN|scale"):
        read_image(tmp_path / "a.tif")


def _claims(width: int, height: int, suffix: str) -> bytes:
    """The head of a file that says it is large."""
    if suffix == ".png":
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    jpeg = bytearray(_jpeg())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(jpeg)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_gigantic_images_are_refused_from_their_header(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(_claims(20_000, 20_000, suffix))
    with pytest.raises(InputError, match="million"):
        read_image(path)
    path.write_bytes(_claims(12_000, 10_000, suffix))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header = read_header(path)
    assert (header.height, header.width) == (10_000, 12_000)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 9), (12, 3), (11, 8)])
def test_the_middle_of_an_image_has_equal_borders(height: int, width: int) -> None:
    places = torch.arange(float(height * width)).view(1, height, width)
    for image in (places, places[0]):
        found = middle(image, 5)
        assert found.shape[-2:] == (min(height, 5), min(width, 5))
        top, left = divmod(int(found.flatten()[0]), width)
        assert 0 <= height - found.shape[-2] - 2 * top <= 1
        assert 0 <= width - found.shape[-1] - 2 * left <= 1


def test_pixels_become_the_nearest_of_256_levels() -> None:
    values = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 2.0]).view(1, 2, 3).expand(3, 2, 3)
    found = eight_bits(values)
    assert (found.dtype, found.shape, found.flags["C_CONTIGUOUS"]) == (np.uint8, (2, 3, 3), True)
    assert found[..., 0].tolist() == [[0, 0, 0], [1, 255, 255]]


def test_writing_never_replaces_a_file_unless_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        write_image(path, _image(3, 8))
    assert path.read_text() == "mine"
    write_image(path, _image(3, 8), overwrite=True)
    assert read_image(path).size == (37, 53)


def test_failed_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    taken = tmp_path / "b.json"
    taken.write_text("mine")
    with pytest.raises(InputError):
        write_files({tmp_path / "a.png": b"1", taken: b"2"})
    with pytest.raises(InputError, match="does not exist"):
        write_image(tmp_path / "absent" / "a.png", _image(3, 8))
    with pytest.raises(InputError, match=r"extension.*\.png"):
        write_image(tmp_path / "a.pmg", _image(3, 8))
    with pytest.raises(InputError, match="transparency"):
        write_image(tmp_path / "a.jpg", _image(3, 8, alpha=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.json"]
    assert taken.read_text() == "mine"
