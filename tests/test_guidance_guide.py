"""The command `invsolve guide`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from invsolve.commands.cli import main


def ink(x: Tensor) -> Tensor:
    """A reward: how bright the image is."""
    return 200 * x.mean((1, 2, 3))


def shapeless(x: Tensor) -> Tensor:
    """A reward of the wrong shape."""
    return x


def broken(x: Tensor, sigma: Tensor) -> Tensor:
    """A classifier that returns NaN."""
    return torch.full((len(x), 10), torch.nan) + x.mean()


def guide(out: Path, *words: str) -> int:
    return main(["guide", "--prior", "digits", "--samples", "3", "--steps", "4", "-o", str(out), *words])


def brightness(path: Path) -> float:
    with Image.open(path) as image:
        return float(torch.tensor(list(image.tobytes())).double().mean())


@pytest.mark.parametrize("how", [["--scale", "adaptive:30"], ["--weight", "c2fg:1.5,0.6"], []])
def test_a_class_makes_a_sheet_and_a_record(tmp_path: Path, how: list[str]) -> None:
    out = tmp_path / "seven.png"
    assert guide(out, "--class", "7", *how) == 0
    with Image.open(out) as image:
        assert image.size == (512, 512)
    record = json.loads((tmp_path / "seven.json").read_text())
    assert record["samples"] == 3
    assert record["class"] == 7
    assert record["network_forwards"] == (8.0 if "--weight" in how else 4.0)
    assert guide(out, "--class", "7", *how) == 2  # it exists


@pytest.mark.parametrize("kind", ["missing", "read-only", "a folder", "a folder beside"])
def test_an_output_that_cannot_be_written_is_reported_before_sampling(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("invsolve.core.driver.solve", lambda *_, **__: pytest.fail("it sampled"))
    if kind == "read-only":
        monkeypatch.setattr("os.access", lambda path, _: Path(path) != tmp_path)
    if kind.startswith("a folder"):
        (tmp_path / ("a.png" if kind == "a folder" else "a.json")).mkdir()
    out = tmp_path / "absent" / "a.png" if kind == "missing" else tmp_path / "a.png"
    assert guide(out, "--class", "7", "--overwrite") == 2
    expected = {"missing": "does not exist", "read-only": "is not writable"}.get(kind, "is a folder")
    assert expected in capsys.readouterr().err


def test_a_reward_steers(tmp_path: Path) -> None:
    sheets = []
    for name, scale in (("free", "fixed:0"), ("bright", "fixed:1")):
        out = tmp_path / f"{name}.png"
        assert guide(out, "--reward", "test_guidance_guide:ink", "--scale", scale) == 0
        sheets.append(brightness(out))
    assert sheets[1] > sheets[0] + 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--class 11", "0 to 9"),
        ("--class 12 --scale fixed:1", "0 to 9"),
        ("--class 7 --scale adaptive:-3", "lam must be"),
        ("--class 7 --scale adaptiv:3", "did you mean 'adaptive'"),
        ("--class 7 --weight c2fg:1,-1", "lambda"),
        ("--class 7 --prior natural", "no fixed image size"),
        ("--class 7 --scale fixed:1 --classifier test_guidance_guide:broken", "NaN"),
        ("--reward test_guidance_guide:shapeless", "one number for each sample"),
        ("--reward test_guidance_guide:absent", "cannot be loaded"),
        ("--reward test_guidance_guide:ink --temperature 0", "temperature"),
        ("--reward test_guidance_guide:ink --weight 2", "--scale"),
        ("--class 7 --samples 0", "at least 1"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(tmp_path: Path, capsys, words: str, said: str) -> None:
    assert guide(tmp_path / "x.png", *words.split()) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_classifier_that_would_not_be_used_is_refused(tmp_path, capsys):
    for words in (["--class", "7"], ["--class", "7", "--weight", "3"], ["--reward", "my:reward", "--scale", "fixed:1"]):
        assert guide(tmp_path / "a.png", *words, "--classifier", "my:typo") == 2
        assert "--classifier steers towards a class with a scale" in capsys.readouterr().err


def test_the_classifier_is_where_the_prior_is(monkeypatch):
    from invsolve import guiding
    from invsolve.priors.loading import digits

    asked = []
    monkeypatch.setattr(digits, "digits_classifier", lambda device: asked.append(device) or digits.NoisyClassifier)
    prior = type("Elsewhere", (), {"device": torch.device("meta"), "shape": (1, 16, 16)})()
    guiding._classifier(guiding.Guide(prior="digits", label=7, scale="fixed:1"), prior)
    assert asked == [torch.device("meta")]
