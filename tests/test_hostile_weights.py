"""Weight files and pickles that lie: refused in a sentence, nothing runs, nothing of the process gets out."""

from __future__ import annotations

import io
import json
import os
import struct
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import invsolve as iv
from invsolve import priors
from invsolve.core.boundary import load_torch
from invsolve.core.weights import read_network
from invsolve.priors.loading.convert import convert
from invsolve.priors.loading.pickles import read_pickle
from invsolve.priors.loading.schedulers import reading
from invsolve.priors.loading.weights import read_header, read_weights
from invsolve.priors.networks.unet import Denoiser, save_denoiser
from invsolve.priors.networks.unet_config import DenoiserConfig


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def number(n: int) -> bytes:
    return b"J" + struct.pack("<i", n)


KINDS = {torch.float32: torch.FloatStorage, torch.int64: torch.LongStorage, torch.complex64: torch.ComplexFloatStorage}


def storage(values: int = 4, dtype: torch.dtype = torch.float32, cut: int = 0) -> bytes:
    """The call that rebuilds a storage of ones, its last bytes cut off."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, which still writes these into pickles
        made = KINDS[dtype](values)
        made.fill_(1)
        torch.save(made, file, _use_new_zipfile_serialization=False)
    packed = file.getvalue()[: len(file.getvalue()) - cut]
    return name("torch.storage", "_load_from_bytes") + b"B" + struct.pack("<I", len(packed)) + packed + b"\x85R"


def tensor(shape: bytes, stride: bytes, offset: int = 0, kept: bytes | None = None) -> bytes:
    """The call that rebuilds a tensor; `shape` and `stride` are tuples as a pickle writes them."""
    args = (kept or storage()) + number(offset) + shape + stride + b"\x89" + name("collections", "OrderedDict") + b")R"
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + args + b"tR"


def net(weight: bytes) -> bytes:
    """A pickle of an EDM network with one weight."""
    model = name("m", "SongUNet") + b")R}" + text("_parameters") + b"}" + text("w") + weight + b"ssb"
    outer = name("m", "EDMPrecond") + b")R}" + text("_modules") + b"}" + text("model") + model + b"ssb"
    return b"\x80\x04}" + text("ema") + outer + b"s."


def one(n: int) -> bytes:
    return number(n) + b"\x85"


WRONG = {
    "beyond its storage": tensor(one(4096), one(1)),
    "one value beyond": tensor(one(4), one(1), offset=1),
    "the same value many times": tensor(one(2**30), one(0)),
    "backwards": tensor(one(4), one(-1), offset=3),
    "a huge stride": tensor(one(2), one(2**31 - 1)),
    "a negative size": tensor(one(-4), one(1)),
    "sizes and strides of different number": tensor(one(4), number(1) + number(1) + b"\x86"),
    "no sizes": tensor(text("abc"), one(1)),
    "a place before the storage": tensor(one(2), one(1), offset=-1),
    "whole numbers": tensor(one(4), one(1), kept=storage(dtype=torch.int64)),
    "complex numbers": tensor(one(4), one(1), kept=storage(dtype=torch.complex64)),
    "a storage that is cut off": tensor(one(1), one(1), kept=storage(cut=3)),
    "a storage elsewhere": tensor(one(1), one(1), kept=text("storage") + b"Q"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_tensors_that_do_not_fit_their_bytes_are_not_written(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.pkl").write_bytes(net(WRONG[kind]))
    with pytest.raises(iv.InputError):
        convert(tmp_path / "a.pkl", tmp_path / "a.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pkl"]


def test_a_tensor_that_fits_is_written_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(net(tensor(number(2) + number(2) + b"\x86", number(1) + number(2) + b"\x86")))
    config = convert(tmp_path / "a.pkl", tmp_path / "a.safetensors")
    assert config["class"] == "SongUNet"
    assert torch.equal(read_weights(tmp_path / "a.safetensors").tensors["w"], torch.ones(2, 2))


BUILD = {
    "a function of torch": name("torch._utils", "_rebuild_tensor_v2") + b"N}" + text("__defaults__") + b"Ns\x86b.",
    "a class": name("collections", "OrderedDict") + b"}" + text("__init__") + b"Nsb.",
    "a number": number(3) + b"}" + text("real") + b"Nsb.",
    "a list": b"]}" + text("append") + b"Nsb.",
}


@pytest.mark.parametrize("kind", BUILD)
def test_nothing_of_the_process_is_changed(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04" + BUILD[kind])
    with pytest.raises(iv.InputError, match="did not create"):
        convert(tmp_path / "a.pkl", tmp_path / "a.safetensors")
    torch.save({"w": torch.ones(2)}, tmp_path / "good.pt")
    assert torch.load(tmp_path / "good.pt")["w"].sum() == 2


def _doubled(levels: int) -> bytes:
    """A module that holds the one before it twice, and so on."""
    made = b""
    for i in range(levels):
        before = b"" if i == 0 else b"".join(text(child) + b"h" + bytes([i - 1]) + b"s" for child in ("unet", "b"))
        made += name("m", "Precond") + b")R}" + text("_modules") + b"}" + before + b"sb\x94"
    return made + b"."


DEEP = {
    "itself": name("m", "Precond") + b")R\x94}" + text("_modules") + b"}" + text("unet") + b"h\x00ssb.",
    "twice in each of sixty": _doubled(60),
    "tuples in tuples": b"N" + b"\x85" * 500_000 + b".",
    "marks": b"(" * 500_000 + b".",
    "a text of 2^62 bytes": b"\x8d" + struct.pack("<Q", 2**62) + b"abc.",
    "a number of 2^31 bytes": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",
    "a number of many digits": b"L" + b"1" * 100_000 + b"L\n.",
    "an extension": b"\x82\x01.",
    "nothing on the stack": b"0.",
    "keys that cannot be": b"}]" + number(1) + b"s.",
    "no memory": b"h\x05.",
}  # fmt: skip


@pytest.mark.parametrize("kind", DEEP)
def test_pickles_without_end_end_soon(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04" + DEEP[kind])
    began = time.monotonic()
    with pytest.raises(iv.InputError) as caught:
        convert(tmp_path / "a.pkl", tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 10


def test_calls_are_kept_and_not_made() -> None:
    record = read_pickle(io.BytesIO(b"\x80\x04" + name("os", "mkdir") + text("ran") + b"\x85R."))
    assert (record.name, record.args) == ("os.mkdir", ("ran",))
    assert not Path("ran").exists()


def _zip(path: Path, parts: dict[str, bytes], how: int) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for part, content in parts.items():
            archive.writestr(f"a/{part}", content)
    return path


def test_small_archives_of_large_things_are_refused_at_once(tmp_path: Path) -> None:
    large = b"\x80\x02" + b"N0" * 6_000_000 + b"N."
    packed = _zip(tmp_path / "a.pt", {"data.pkl": large}, zipfile.ZIP_DEFLATED)
    assert packed.stat().st_size < 2**20
    stored = _zip(tmp_path / "b.pt", {"data.pkl": large}, zipfile.ZIP_STORED)
    for path in (packed, stored):
        began = time.monotonic()
        with pytest.raises(iv.InputError, match=r"compressed|describe"):
            read_weights(path)
        assert time.monotonic() - began < 2


def test_torch_files_within_their_own_bytes(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1).expand(10**9)}, tmp_path / "a.pt")
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "b.pt")
    for file in ("a.pt", "b.pt"):
        with pytest.raises(iv.InputError, match=r"beyond|sparse"):
            read_weights(tmp_path / file)
    content: Any = torch.ones(1)
    for _ in range(60):
        content = {"a": content, "b": content}
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(iv.InputError, match="nested"):
        load_torch(tmp_path / "c.pt", "weight file")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_regular_files_are_read(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "a.pt")
    for reader in (read_weights, read_header, lambda path: convert(path, tmp_path / "b.safetensors")):
        with pytest.raises(iv.InputError, match=r"pipe|folder"):
            reader(tmp_path / "a.pt")
    with pytest.raises(iv.InputError, match="pipe or a device"):
        read_weights("/dev/zero")
    with pytest.raises(iv.InputError):
        read_weights("x" * 5000)
    with pytest.raises(iv.InputError):
        priors.load("/" + "x/" * 3000)


def _header(path: Path, header: bytes) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 16)
    return path


@pytest.mark.parametrize(
    "header",
    [
        b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"__metadata__":[1]}',
        b'{"__metadata__":{"format":5}}',
        b'{"__metadata__":{"format":"invsolve-edm-1","config":"' + b"[" * 50_000 + b'"}}',
        b'{"__metadata__":{"format":"invsolve-edm-1","config":"7"}}',
        b'{"__metadata__":{"format":"invsolve-edm-1","config":"{}"}}',
        b'{"__metadata__":{"format":"invsolve-denoiser-1","config":"{\\"blocks\\": 5}"}}',
        b'{"w":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,16]}}',
        b"{" + b"\xff" * 30 + b"}",
        b"{",
    ],
    ids=range(10),
)
def test_headers_that_lie_are_told(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(iv.InputError) as caught:
        priors.load(_header(tmp_path / "a.safetensors", header))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"blocks": [10**9, 1]}, {"channels": [10**9, 8]}, {"channels": "88"}, {"sigma_data": -1}, {"sigma_data": "x"},
     {"classes": 10**12}, {"more": 1}, {"embedding": 1.5}, {"image_channels": True}, {"blocks": [[1], 1]}],
    ids=str,
)  # fmt: skip
def test_configurations_of_no_network_are_refused_at_once(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "a.safetensors"
    save_denoiser(Denoiser(DenoiserConfig(channels=(8, 8), blocks=(1, 1), embedding=8)), path)
    weights = read_weights(path)
    config = {**json.loads(weights.metadata["config"]), **change}
    save_file(dict(weights.tensors), path, {**weights.metadata, "config": json.dumps(config)})
    began = time.monotonic()
    with pytest.raises(iv.InputError):
        priors.load(path)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("config", [{}, {"config": "{"}, {"config": "[1]"}], ids=["none", "cut", "list"])
def test_configurations_of_small_networks_are_read_as_those_of_others(tmp_path: Path, config: dict[str, str]) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"w": torch.zeros(1)}, path, {"format": "invsolve-noise", **config})
    with pytest.raises(iv.InputError, match="the configuration in"):
        read_network("invsolve-noise", path, "invsolve train noise")


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("DDPMScheduler", {"num_train_timesteps": 10**12}),
        ("DDPMScheduler", {"num_train_timesteps": "1000"}),
        ("DDPMScheduler", {"num_train_timesteps": 0}),
        ("DDPMScheduler", {"beta_start": float("nan")}),
        ("DDPMScheduler", {"beta_end": 5}),
        ("DDPMScheduler", {"beta_schedule": ["linear"]}),
        ("DDPMScheduler", {"prediction_type": {"a": 1}}),
        ("DDPMScheduler", {"trained_betas": "abc"}),
        ("DDPMScheduler", {"trained_betas": [[0.1], [0.2]]}),
        ("DDPMScheduler", {"trained_betas": []}),
        ("FlowMatchEulerDiscreteScheduler", {"shift": -1}),
        ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True, "max_shift": 1e6}),
        ("EDMEulerScheduler", {"sigma_max": "80"}),
        ("EDMEulerScheduler", {"sigma_min": 0}),
        ("EDMEulerScheduler", {"rho": float("inf")}),
        ("ScoreSdeVeScheduler", {"sigma_max": -1}),
        ("x" * 5000, {}),
        (5, {}),
    ],
    ids=str,
)
def test_hostile_scheduler_values_are_refused(kind: Any, config: dict[str, Any]) -> None:
    pytest.importorskip("diffusers")
    with pytest.raises(iv.InputError) as caught:
        reading({"_class_name": kind, **config})
    assert len(str(caught.value)) < 2000
