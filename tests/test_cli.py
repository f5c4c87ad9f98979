"""The command line: quick help, one line for every error, exit codes, and nothing left behind."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO, cast

import numpy as np
import pytest
import torch
from test_restore import photograph

from invsolve.commands.cli import main
from invsolve.commands.terminal import Printable
from invsolve.io import Image, read_image, write_image

PRIOR = ["--prior", "test_restore:smooth"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with some images in it."""
    write_image(tmp_path / "in.png", Image(photograph(40, 48)))
    write_image(tmp_path / "other.jpg", Image(photograph(40, 48)))
    write_image(tmp_path / "mask.png", Image((photograph(40, 48, 1) > 0.6).float()))
    return tmp_path


def run(folder: Path, *words: str) -> int:
    """Run `invsolve restore` on files of `folder`: words that name one are completed."""
    paths = [str(folder / word) if (folder / word).exists() and not word.startswith("-") else word for word in words]
    try:
        return main(["restore", *PRIOR, *paths])
    except SystemExit as end:
        return int(end.code or 0)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Assert that a command ends with code 2, one line, and an untouched folder; return the line."""
    before = files(folder)
    capsys.readouterr()
    assert run(folder, *words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("invsolve: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert files(folder) == before
    return err


def test_restore_writes_the_image_a_comparison_and_a_record(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "in.png", "--task", "denoise", "--simulate", "--set", "n_steps=2") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == str(folder / "in-restored.png")
    assert "PSNR" in out
    assert err.count("\n") == 1
    assert "this prior has none of its own" in err  # the settings of natural under a prior that nobody tuned for
    names = {"in-restored.png", "in-restored-comparison.png", "in-restored.json"}
    assert set(files(folder)) == names | {"in.png", "other.jpg", "mask.png"}
    record = json.loads((folder / "in-restored.json").read_text())
    assert record["command"].startswith("invsolve restore ")
    assert record["solver"]["settings"]["n_steps"] == 2
    assert read_image(folder / "in-restored-comparison.png").size[1] > 3 * 48


def test_several_images_go_to_a_folder_that_is_made(folder: Path) -> None:
    out = folder / "out"
    words = ("in.png", "other.jpg", "--task", "superres", "--factor", "2", "--noise", "0.02", "--set", "n_steps=2")
    assert run(folder, *words, "-o", str(out)) == 0
    assert {p.name for p in out.iterdir()} >= {"in-restored.png", "other-restored.jpg"}
    assert read_image(out / "other-restored.jpg").size == (80, 96)


def test_samples_are_written_with_their_mean_and_intervals(folder: Path) -> None:
    words = ("in.png", "--task", "inpaint", "--mask", "mask.png", "--noise", "0.02", "--samples", "2")
    settings = ("--solver", "dps", "--set", "form=ddim", "--set", "n_steps=3", "--set", "t_start=0.3")
    assert run(folder, *words, *settings, "-o", str(folder / "x.png")) == 0
    assert {"x.png", "x-interval.png", "x-samples", "x.json"} <= {path.name for path in folder.iterdir()}
    samples = [read_image(folder / "x-samples" / f"sample{i}.png").pixels for i in (1, 2)]
    assert not torch.equal(*samples)
    assert (torch.stack(samples).mean(0) - read_image(folder / "x.png").pixels).abs().max() < 1.1 / 255


def _damage(folder: Path) -> None:
    whole = (folder / "other.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no image\n")
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder.png").mkdir()
    write_image(folder / "pixel.png", Image(torch.full((3, 1, 1), 0.5)))
    write_image(folder / "small.png", Image((photograph(20, 48, 1) > 0.6).float()))
    np.save(folder / "zero.npy", np.zeros((3, 3)))
    import cv2

    values = np.full((9, 9, 3), np.nan, np.float32)
    (folder / "nan.tif").write_bytes(cv2.imencode(".tif", values)[1].tobytes())
    header = bytearray((folder / "in.png").read_bytes())
    header[16:24] = (20_000).to_bytes(4, "big") * 2
    (folder / "huge.png").write_bytes(bytes(header))


@pytest.mark.parametrize(
    "words",
    [
        "absent.png --task denoise",
        "folder.png --task denoise",
        "text.png --task denoise",
        "cut.jpg --task denoise",
        "empty.png --task denoise",
        "nan.tif --task denoise",
        "huge.png --task denoise",
        "pixel.png --task denoise",
        "in.png --task inpaint --mask small.png",
        "in.png --task inpaint --mask absent.png",
        "in.png --task inpaint",
        "in.png --task deblur",
        "in.png --task deblur --kernel zero.npy",
        "in.png --task deblur --kernel text.png",
        "in.png --task deblur --blur-sigma -1",
        "in.png --task denoise --noise -0.1",
        "in.png --task denoise --noise much",
        "in.png --task denoise --noise nan",
        "in.png --task superres --factor 0",
        "in.png --task superres --factor 41",
        "in.png --task superres --factor x",
        "in.png --task denoize",
        "in.png --task denoise --solver ndtn",
        "in.png --task denoise --solver ddim",
        "in.png --task denoise --prior naturl",
        "in.png --task denoise --device nothing",
        "in.png --task denoise --samples 0",
        "in.png --task denoise --set n_steps",
        "in.png --task denoise --set n_stepps=3",
        "in.png --task denoise --set n_steps=-3",
        "in.png --task denoise --tile 100",
        "in.png --task denoise --memory 0",
        "in.png --task denoise --memory 0.000001",
        "in.png --task denoise -o absent/deep/out.png",
        "in.png --task denoise -o absent/deep",
        "in.png --task denoise -o mask.png",
        "in.png other.jpg --task denoise -o out.png",
        "in.png other.jpg --task denoise --checkpoint c",
        "in.png --task denoise --checkpoint absent/c",
        "in.png --task denoise --checkpoint text.png",
        "in.png --task denoise --unknown",
        "--task denoise",
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str], words: str) -> None:
    _damage(folder)
    refused(folder, capsys, *words.split())


def test_an_output_that_exists_is_replaced_only_when_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("in.png", "--task", "denoise", "--noise", "0.05", "--set", "n_steps=1")
    for name in ("in-restored.png", "in-restored.json", "in-restored-comparison.png"):
        (folder / name).write_text("mine")
        assert "exists" in refused(folder, capsys, *words)
        (folder / name).unlink()
    assert run(folder, *words) == 0
    first = files(folder)
    assert "exists" in refused(folder, capsys, *words)
    assert run(folder, *words, "--overwrite", "--seed", "1") == 0
    assert set(files(folder)) == set(first)


def test_unknown_commands_and_options_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restor", "x"]) == 2
    assert "did you mean 'restore'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["--verson"])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def _python(*words: str) -> list[str]:
    return [sys.executable, *words]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}


def test_help_answers_without_loading_torch() -> None:
    """The time itself (under a second) depends on the machine: what decides it is what gets imported."""
    code = "import sys; from invsolve.commands.cli import main; sys.argv = ['invsolve', '--help']\ntry: main()\n"
    code += "except SystemExit: pass\nprint('torch' in sys.modules, 'numpy' in sys.modules, 'PIL' in sys.modules)"
    run = subprocess.run(_python("-c", code), capture_output=True, text=True, check=True)
    assert "restore degraded photographs" in run.stdout
    assert run.stdout.splitlines()[-1] == "False False False"


def test_python_m_invsolve_is_the_command() -> None:
    run = subprocess.run(_python("-m", "invsolve", "--version"), capture_output=True, text=True, check=True)
    assert run.stdout.startswith("invsolve ")


@pytest.mark.parametrize(("encoding", "shown"), [("cp1252", "\\u5199\\u771f ä"), ("ascii", "\\u5199\\u771f \\xe4")])
def test_names_that_the_output_cannot_encode_are_escaped(encoding: str, shown: str) -> None:
    """The batch ended after the first image of `invsolve restore 写真/ > log.txt` on Windows."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    print("写真 ä", file=cast("TextIO", Printable(stream)), flush=True)
    assert cast("io.BytesIO", stream.buffer).getvalue().decode(encoding) == f"{shown}\n"


@pytest.mark.parametrize("text", ["写真 ä\n", "a\x1b[31m\n"])
def test_other_characters_are_printed_as_they_are(text: str) -> None:
    for stream in (io.StringIO(), io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n")):
        Printable(stream).write(text)
        stream.seek(0)
        assert stream.read() == text.replace("\x1b", "\\x1b")


def test_an_interrupted_run_ends_with_130_and_leaves_nothing(folder: Path) -> None:
    before = set(files(folder))
    words = ("restore", str(folder / "in.png"), "--task", "denoise", "--noise", "0.05", "--set", "n_steps=500")
    mark = folder / "run"
    process = subprocess.Popen(
        _python("-m", "invsolve", *words, "--prior", "test_cli:paused", "--checkpoint", str(mark)),
        env={**_environment(), "INVSOLVE_TEST_MARK": str(folder / "begun")},
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts background jobs with SIGINT ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not (folder / "begun").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "invsolve: interrupted\n"
    assert set(files(folder)) - {"begun", "run"} == before


def paused(**_: object) -> object:
    """A slow prior, which tells that it has been called."""
    from test_restore import SmoothPrior

    class Told(SmoothPrior):
        def denoise(self, x_t: torch.Tensor, t: float) -> torch.Tensor:
            Path(os.environ["INVSOLVE_TEST_MARK"]).touch()
            return super().denoise(x_t, t)

    return Told(pause=0.05)


def test_a_reader_that_has_seen_enough_is_no_error():
    words = [sys.executable, "-c", "from invsolve.commands.cli import main; raise SystemExit(main(['bench', 'list']))"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0
