"""The app without a browser: its words, its limits, what it makes of what visitors paint, and programs that use it."""

from __future__ import annotations

import json
import math
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import tifffile
import torch
from PIL import Image as Pillow

import invsolve as iv
from invsolve.app.limits import Limits
from invsolve.app.words import command_line, found, python_lines, seconds_left, suggestion
from invsolve.commands.cli import main
from invsolve.core.checks import InputError
from invsolve.io import Image, Metadata, read_image, write_image


def test_the_command_of_a_hostile_name_is_one_word_of_the_shell():
    name = "-rf $(touch x); 'a' \"b\".png"
    line = command_line(name, "denoise", {"noise": 0.1, "blur_sigma": -1}, "out.png")
    words = ["invsolve", "restore", f"./{name}", "--task", "denoise", "--noise", "0.1", "--blur-sigma=-1"]
    assert shlex.split(line) == [*words, "-o", "out.png"]
    compile(python_lines(name, "denoise", {"noise": 0.1}, "out.png"), "lines", "exec")


def test_what_a_look_found_is_said_in_plain_words():
    found = {"noise": 0.1, "jpeg_quality": None, "missing": 0.0, "found": ["a", "b"]}
    task, said = suggestion({**found, "task": "denoise"}, ["denoise"])
    assert task == "denoise"
    assert "Looks like “Noisy or grainy”: strong noise (10 % of the step from black to white)." in said
    found = {"noise": 0.001, "jpeg_quality": 90, "missing": 0.02, "found": ["a", "nothing is done"]}
    task, said = suggestion({**found, "task": "unchanged"}, ["denoise"])
    assert task == "auto"
    assert "JPEG of quality 90, 2 % of the pixels are transparent" in said
    assert suggestion({**found, "task": "demosaic"}, ["denoise"])[0] == "auto"


LEVEL = "visible (5 % of the step from black to white)"


@pytest.mark.parametrize(("noise", "task", "name", "said"), [
    ("estimated", {}, "Noise", f"{LEVEL}, measured in your image"),
    ("given", {}, "Noise", f"{LEVEL}, as you said"),
    ("task", {"sensor_noise": {"source": "file"}}, "Noise of the sensor", f"{LEVEL}, read from the file"),
    ("task", {"sensor_noise": {"source": "estimated"}}, "Noise of the sensor", f"{LEVEL}, measured in your image"),
    ("task", {}, "Lost to compression", "about 5 % of the step from black to white"),
    ("task", {"tables": "file", "quality": 40}, "JPEG", "quality 40, read from the file"),
    ("task", {"tables": "pixels", "quality": 40}, "JPEG", "quality 40, found in its pixels"),
    ("task", {"tables": "given", "quality": 40}, "JPEG", "quality 40, as you said"),
])  # fmt: skip
def test_where_noise_and_compression_come_from_is_said(noise, task, name, said):
    record = {
        "noise": {"sigma": 0.05, "source": noise, "found": "noise of 0.05"}, "task": task, "warnings": [], "status": [],
        "stats": {"network_forwards": 1}, "solver": {"name": "a", "chosen": {"reason": "b"}}, "estimate": "point",
        "prior": {"name": "natural"},
    }  # fmt: skip
    words = found(SimpleNamespace(record=record, image=Image(torch.zeros(3, 8, 8)), kernel=None), [])  # pyright: ignore
    assert f"<dt>{name}</dt><dd>{said}</dd>" in words
    assert ("compression" in words) is (noise == "task" and "sensor_noise" not in task)


def test_a_run_ends_at_its_deadline_and_few_samples_are_drawn():
    pytest.importorskip("gradio")
    from invsolve.app.running import Engine, Run

    engine, run = Engine("natural", "cpu", 1000, seconds=0.0), Run(lambda own: None)
    with suppress(InputError), engine.computing(run):
        pass
    with pytest.raises(InputError, match="longer than the page allows"):
        run.check()
    with pytest.raises(InputError, match="at most 32 samples, got 33"):
        engine.options("denoise", samples=33)
    with pytest.raises(InputError, match="this page takes 1000"):
        engine.check_pixels(40, 40)


def test_settings_of_a_method_may_be_lists():
    pytest.importorskip("gradio")
    from invsolve.app.compare_tab import read_settings

    assert read_settings("n_steps=20, ratios=[1.0, 0.1],start=smooth") == {
        "n_steps": 20, "ratios": [1.0, 0.1], "start": "smooth",
    }  # fmt: skip
    with pytest.raises(InputError, match="n_steps=20"):
        read_settings("n_steps")


def test_time_left():
    assert seconds_left(10, 0.5) == "about 10 s left"
    assert seconds_left(100, 0.25) == "about 5 min left"


@pytest.mark.parametrize(
    "words", [["--port", "0"], ["--max-pixels", "0"], ["--queue", "0"], ["--device", "abacus"], ["--store", "nowhere"]]
)
def test_the_command_refuses_what_it_cannot_serve(words, capsys):
    assert main(["app", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("limit", ["max_pixels", "max_megabytes", "max_minutes", "at_once", "queue"])
def test_every_limit_of_the_page_is_checked(limit):
    with pytest.raises(InputError, match=f"--{limit.replace('_', '-')} must be at least 1, got 0"):
        Limits(**{limit: 0})


def test_without_gradio_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["app"]) == 2
    assert "pip install 'invsolve[app]'" in capsys.readouterr().err


SERVING = """
import ast, sys
from invsolve.commands.app import without_stubs
parsed = []
parse = ast.parse
ast.parse = lambda *args, **told: (parsed.append(1), parse(*args, **told))[1]
with without_stubs():
    from invsolve.app import page
with page.served(port=None):
    print("torch" in sys.modules, len(parsed) < 20)
"""


def test_the_page_waits_neither_for_torch_nor_for_stub_files():
    """Both take as long as all the rest of the start."""
    pytest.importorskip("gradio")
    found = subprocess.run([sys.executable, "-c", SERVING], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "True"]


def painted(*shapes, size=(64, 48), image=None, folder=None) -> torch.Tensor | None:
    pytest.importorskip("gradio")
    from invsolve.app.masks import painted_mask

    path = image or write_image(folder / "plain.png", Image(torch.full((3, 48, 64), 0.5), None, 8), overwrite=True)
    mask = painted_mask({"size": list(size), "shapes": list(shapes)}, path, folder / "mask.png")
    return None if mask is None else read_image(mask).pixels[0]


def test_what_is_painted_becomes_pixels_of_the_image(tmp_path):
    box = {"tool": "box", "width": 5, "points": [[30, 20], [10, 8]]}  # from any corner to the opposite one
    mask = painted(box, folder=tmp_path)
    expected = torch.zeros(48, 64)
    expected[8:20, 10:30] = 1
    assert torch.equal(mask, expected)
    stroke = {"tool": "brush", "width": 6, "points": [[10, 30], [50, 30]]}
    mask = painted(box, stroke, folder=tmp_path)
    assert torch.equal(mask[:24], expected[:24])
    assert abs(float(mask[24:].sum()) - (6 * 40 + math.pi * 9)) < 60  # a line with round ends, to about half a pixel
    assert mask[29, 30] == mask[28, 48] == 1
    assert mask[38, 30] == mask[30, 2] == mask[30, 58] == 0
    mask = painted(box, {"tool": "erase", "width": 4, "points": [[20, 0], [20, 47]]}, folder=tmp_path)
    assert mask[10, 20] == 0
    assert mask[10, 12] == 1
    mask = painted({"tool": "box", "width": 1, "points": [[-9, -9], [900, 3]]}, folder=tmp_path)
    assert float(mask.sum()) == 3 * 64


def test_what_is_painted_on_a_turned_photograph_is_of_the_upright_image(tmp_path):
    pytest.importorskip("gradio")
    from invsolve.app.masks import paintable, painted_mask

    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.new("RGB", (64, 40), (90, 90, 90)).save(tmp_path / "turned.jpg", exif=exif.tobytes())
    shown = paintable(tmp_path / "turned.jpg")
    assert shown["size"] == [40, 64]
    box = {"tool": "box", "width": 1, "points": [[0, 60], [40, 64]]}
    target = painted_mask({"size": shown["size"], "shapes": [box]}, tmp_path / "turned.jpg", tmp_path / "mask.png")
    assert target is not None
    mask = read_image(target).pixels[0]
    assert tuple(mask.shape) == (64, 40)
    assert mask.nonzero()[:, 0].unique().tolist() == [60, 61, 62, 63]


def test_before_and_after_declare_the_same_colours(tmp_path):
    """In the slider, a linear file looked darker before than after, whatever was restored."""
    pytest.importorskip("gradio")
    from invsolve.app.restore_tab import before_image

    metadata = Metadata(colours=((b"gAMA", (100_000).to_bytes(4, "big")),))
    write_image(tmp_path / "linear.png", Image(torch.rand(3, 24, 32), metadata=metadata))
    done = iv.restore(tmp_path / "linear.png", "superres", factor=2, noise=0.05, quality="fast")
    before = read_image(before_image(done, tmp_path / "before.png"))
    assert before.size == done.image.size
    assert before.metadata.colours == done.image.metadata.colours == metadata.colours


def test_images_with_missing_values_have_a_picture(tmp_path):
    pytest.importorskip("gradio")
    from invsolve.app.masks import paintable
    from invsolve.app.pictures import picture_of

    values = torch.full((20, 30), 0.5)
    values[5:9, 5:9] = float("nan")
    tifffile.imwrite(tmp_path / "holes.tif", values.numpy())
    assert picture_of(tmp_path / "holes.tif", 16).startswith("data:image/jpeg")
    assert paintable(tmp_path / "holes.tif")["size"] == [30, 20]


def test_what_is_transparent_is_filled_in_beside_what_is_painted(tmp_path):
    alpha = torch.ones(1, 48, 64)
    alpha[:, :5] = 0
    image = write_image(tmp_path / "holes.png", Image(torch.full((3, 48, 64), 0.5), alpha, 8))
    mask = painted({"tool": "box", "width": 1, "points": [[0, 40], [64, 48]]}, image=image, folder=tmp_path)
    assert mask[:, 7].nonzero().flatten().tolist() == [*range(5), *range(40, 48)]
    assert painted({"tool": "box", "width": 1, "points": [[0, 0], [9, 9]]}, size=(9, 9), folder=tmp_path) is None
    assert painted(folder=tmp_path) is None
    erased = {"tool": "erase", "width": 4, "points": [[20, 20]]}
    assert painted(erased, folder=tmp_path) is None


@pytest.mark.parametrize(
    "shape",
    [
        {"tool": "box", "points": [[float("nan"), 0], [1, 1]]},
        {"tool": "brush", "width": 1e9, "points": [[1, 1]]},
        {"tool": "brush", "width": 3, "points": [[1e300, 1]]},
        {"tool": "brush", "width": "wide", "points": [[1, 1]]},
        {"tool": "brush", "width": 3, "points": [["a", None]]},
        {"tool": "box", "points": []},
        {"points": [[1, 1]]},
        {"tool": "brush", "width": 3, "points": [[1, 1]] * 200_001},
        "box",
    ],
)
def test_a_hostile_shape_is_refused_in_a_sentence(shape, tmp_path):
    with pytest.raises(InputError, match="the painted mask cannot be read"):
        painted(shape, folder=tmp_path)
    with pytest.raises(InputError, match="the painted mask cannot be read"):
        painted(*[{"tool": "box", "points": [[0, 0], [1, 1]]}] * 1001, folder=tmp_path)


def test_programs_use_it_as_documented(address, small):
    client = pytest.importorskip("gradio_client")
    page = client.Client(address, verbose=False)
    files = page.predict(
        client.handle_file(str(small)), "denoise", {"noise": 0.05, "quality": "fast"}, None, None, api_name="/restore"
    )
    own = iv.restore(small, "denoise", noise=0.05, quality="fast").image.pixels
    assert float((read_image(files[0]).pixels - own).abs().max()) <= 0.5 / 255 + 1e-6
    record = json.loads(Path(files[1]).read_text())
    assert record["noise"]["sigma"] == 0.05
    assert record["input"]["path"] == "bsmall & 'old'.png"
    with pytest.raises(client.exceptions.AppError, match="no option 'solver_file' for denoise"):
        page.predict(
            client.handle_file(str(small)), "denoise", {"solver_file": "/etc/passwd"}, None, None, api_name="/restore"
        )
    assert list(page.view_api(return_format="dict", print_info=False)["named_endpoints"]) == ["/restore"]
    http = pytest.importorskip("httpx").Client(base_url=f"{address}gradio_api/", timeout=60)
    with small.open("rb") as file:
        (path,) = http.post("upload", files={"files": file}).json()
    sent = {"path": path, "meta": {"_type": "gradio.FileData"}}
    for image, ended in ((sent, "complete"), (None, "error")):
        told = {"data": [image, "denoise", {"quality": "fast"}, None, None]}
        event = http.post("call/restore", json=told).json()["event_id"]
        answer = http.get(f"call/restore/{event}").text
        assert f"event: {ended}" in answer
        assert ("-restored.png" in answer) == (ended == "complete")
    http.close()


def test_the_block_of_the_documentation_runs(address, small, tmp_path, monkeypatch, capsys):
    pytest.importorskip("gradio_client")
    page = (Path(__file__).parent.parent / "docs" / "app.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "photo.jpg", read_image(small))
    exec(block.replace("http://127.0.0.1:7860", address))
    restored, record = capsys.readouterr().out.split()[-2:]
    assert read_image(restored).pixels.shape[1] == 2 * read_image(small).pixels.shape[1]
    assert json.loads(Path(record).read_text())["task"]["name"] == "superres"


def test_the_hosted_space_starts_the_page(monkeypatch):
    """Its options are those of the command, and its card names the Gradio that is required."""
    asked = {}

    @contextmanager
    def served(**told):
        asked.update(told)
        yield "http://..."

    pytest.importorskip("gradio")
    monkeypatch.setattr("invsolve.app.page.served", served)
    monkeypatch.setattr("invsolve.commands.app._until_stopped", lambda: None)
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7999")
    folder = Path(__file__).parent.parent / "space"
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(folder / "app.py"))
    assert ended.value.code == 0
    assert (asked["host"], asked["port"]) == ("0.0.0.0", 7999)
    assert asked["limits"].at_once == 1
    assert re.search(r"^sdk_version: 6\.", (folder / "README.md").read_text(), re.MULTILINE)
    assert "invsolve[app,heif,raw]" in (folder / "requirements.txt").read_text()


def test_each_image_of_a_batch_has_its_own_time():
    pytest.importorskip("gradio")
    from invsolve.app.running import Engine, Run

    engine, run = Engine("natural", "cpu", 1000, seconds=60.0), Run(lambda own: None)
    with engine.computing(run):
        run.deadline = 0.0  # the first image took it all
        engine.start_clock(run)
        run.check()


def test_images_of_one_name_keep_different_ones():
    pytest.importorskip("gradio")
    from pathlib import Path

    from invsolve.app.batch_tab import different

    names = ["a.png", "a.png", "a (2).png", "b.jpg", "a.jpg"]
    assert different([Path(name) for name in names]) == ["a", "a (3)", "a (2)", "b", "a (4)"]
