"""Twenty small files of all kinds that invsolve reads, and the reader of each."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import invsolve

__all__ = ["Seed", "make_seeds"]


class Seed(NamedTuple):
    """An intact file and its reader."""

    name: str
    content: bytes
    read: Callable[[Path], object]


def make_seeds(folder: Path) -> list[Seed]:
    """The seeds; they are written to `folder`."""
    from invsolve.io import read_image
    from invsolve.tasks.inputs import read_kernel

    images = [Seed(name, content, read_image) for name, content in _images().items()]
    table = np.random.default_rng(0).random((7, 9))
    npy = io.BytesIO()
    np.save(npy, table)
    text = "\n".join(" ".join(f"{v:.4f}" for v in row) for row in table).encode()
    kernels = [Seed("kernel.npy", npy.getvalue(), read_kernel), Seed("kernel.txt", text, read_kernel)]
    return [*images, *kernels, *_weights(folder), *_texts()]


def _images() -> dict[str, bytes]:
    import tifffile
    from PIL import Image, ImageCms

    from invsolve.io import png

    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (24, 32, 4)).astype(np.uint16)
    eight = (deep >> 8).astype(np.uint8)
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"

    def pillow(form: str, channels: int = 3, **options: Any) -> bytes:
        file = io.BytesIO()
        Image.fromarray(eight[..., :channels]).save(file, form, **options)
        return file.getvalue()

    def tiff(values: Any, **options: Any) -> bytes:
        file = io.BytesIO()
        tifffile.imwrite(file, values, **options)
        return file.getvalue()

    palette = io.BytesIO()
    Image.fromarray(eight[..., :3]).convert("P").save(palette, "PNG", transparency=3)
    floats = (deep[..., 0] / 65535).astype(np.float32)
    return {
        "eight.png": pillow("PNG", 4, icc_profile=icc, exif=exif, dpi=(72, 72)),
        "deep.png": png.encode(deep[..., :3], icc),
        "palette.png": palette.getvalue(),
        "eight.jpg": pillow("JPEG", icc_profile=icc, exif=exif),
        "progressive.jpg": pillow("JPEG", progressive=True, quality=80),
        "lossless.webp": pillow("WEBP", 4, lossless=True, exif=exif),
        "eight.tif": tiff(eight[..., :3], photometric="rgb"),
        "lzw.tif": tiff(deep, photometric="rgb", extrasamples=["assocalpha"], compression="lzw", predictor=True),
        "float.tif": tiff(floats, compression="zlib", rowsperstrip=5, byteorder=">"),
        "tiles.tif": tiff(deep[..., :3], photometric="rgb", bigtiff=True, tile=(16, 16), iccprofile=icc),
        "bits.tif": tiff(eight[..., 0] > 99, compression="packbits"),
    }


class EDMPrecond:
    """Pickled under the name of the published class."""


class SongUNet:
    """Pickled under the name of the published class, too."""


def _weights(folder: Path) -> list[Seed]:
    from invsolve import priors
    from invsolve.core.boundary import load_torch
    from invsolve.priors.loading.convert import convert
    from invsolve.priors.loading.weights import read_weights
    from invsolve.priors.networks.unet import Denoiser, save_denoiser
    from invsolve.priors.networks.unet_config import DenoiserConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Denoiser(DenoiserConfig(channels=(4,), blocks=(1,), embedding=4))
    save_denoiser(network, folder / "a.safetensors")
    torch.save({"state_dict": {"w": torch.ones(3, 4), "b": torch.zeros(2)}, "step": 3}, folder / "a.pt")
    torch.save({"w": torch.ones(5)}, folder / "old.pt", _use_new_zipfile_serialization=False)
    outer, model = EDMPrecond(), SongUNet()
    vars(model).update(_parameters={"w": torch.ones(3, 4)}, _buffers={}, _modules={}, _init_kwargs={"num_blocks": 1})
    vars(outer).update(_modules={"model": model}, sigma_data=0.5)
    (folder / "a.pkl").write_bytes(pickle.dumps({"ema": outer, "epoch": [1, 2.5, None]}))

    def converted(path: Path) -> object:
        target = path.with_suffix(".safetensors")
        target.unlink(missing_ok=True)
        return convert(path, target)

    readers = {
        "a.safetensors": priors.load,
        "a.pt": read_weights,
        "old.pt": lambda path: load_torch(path, "weight file"),
        "a.pkl": converted,
    }
    return [Seed(name, (folder / name).read_bytes(), read) for name, read in readers.items()]


def _texts() -> list[Seed]:
    from invsolve.bench.reading import load_suite
    from invsolve.core.boundary import read_json
    from invsolve.priors.loading.schedulers import reading

    scheduler = {
        "_class_name": "DDPMScheduler", "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02,
        "beta_schedule": "linear", "prediction_type": "epsilon", "trained_betas": None,
    }  # fmt: skip
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "num_train_timesteps": 1000}
    suite = (Path(invsolve.__file__).parent / "bench" / "suites" / "quick.toml").read_bytes()

    def scheduled(path: Path) -> object:
        return reading(read_json(path, "configuration"))

    return [
        Seed("scheduler.json", json.dumps(scheduler).encode(), scheduled),
        Seed("flow.json", json.dumps(flow).encode(), scheduled),
        Seed("suite.toml", suite, load_suite),
    ]
