"""Sweeps: every point is the unit of a suite, what is done is not computed again, and the table is the results'."""

from __future__ import annotations

import json

import pytest
import torch

import invsolve as iv
from invsolve import solvers
from invsolve.bench.scoring import load_measurement
from invsolve.bench.store import Store
from invsolve.bench.sweep import points
from invsolve.commands.cli import main
from invsolve.commands.sweep import read_grid
from invsolve.diagnostics import ControlImages
from invsolve.priors import load
from invsolve.testing.toy import textures


def test_values_are_read_as_toml_and_bare_words_as_text():
    texts = ["weight=0,1.5", "weights=zero,ddim", 'weights2=["zero", "ones"],"ddim"', "clamp=true,false"]
    assert read_grid(texts) == {
        "weight": [0, 1.5],
        "weights": ["zero", "ddim"],
        "weights2": [["zero", "ones"], "ddim"],
        "clamp": [True, False],
    }
    for wrong in (["weight"], ["=1"], ["weight="], ["weight=1", "weight=2"]):
        with pytest.raises(iv.InputError, match="--set"):
            read_grid(wrong)


def test_a_grid_has_all_combinations_or_each_setting_alone():
    grid = {"n_steps": [4, 8], "weights": ["zero", "ddim"]}
    assert list(points(grid).values()) == [
        {"n_steps": 4, "weights": "zero"},
        {"n_steps": 4, "weights": "ddim"},
        {"n_steps": 8, "weights": "zero"},
        {"n_steps": 8, "weights": "ddim"},
    ]
    assert list(points(grid, alone=True)) == ["n_steps = 4", "n_steps = 8", 'weights = "zero"', 'weights = "ddim"']
    with pytest.raises(iv.InputError, match="different"):
        points({"n_steps": [4, 4]})
    with pytest.raises(iv.InputError, match="at least one setting"):
        points({})


def test_a_sweep_is_resumed_grows_and_says_what_solve_says(tmp_path, capsys):
    """On the exact prior of the other tests of suites; 8 x 8 pixels cut of two packaged photographs."""
    store = tmp_path / "store"
    words = ["bench", "sweep", "--task", "denoise", "--noise", "0.1", "--size", "8", "--items", "2", "--workers", "1"]
    words += [
        "--prior",
        "invsolve.testing.toy:textures",
        "--prior-option",
        "side=8",
        "--store",
        str(store),
        "--metrics",
        "psnr",
    ]
    words += ["--preset", "default", "--set", "weight=1,10", "--set"]
    assert main([*words, "n_steps=2", "--control"]) == 0
    assert "\n4 units in" in capsys.readouterr().out
    assert len(list(store.glob("control-*.png"))) == 2
    assert main([*words, "n_steps=2"]) == 0
    assert "\n0 units in" in capsys.readouterr().out
    assert main([*words, "n_steps=2,3"]) == 0
    out = capsys.readouterr().out
    assert "\n4 units in" in out
    lines = (store / "sweep.md").read_text().splitlines()
    assert lines[0] == "| weight | n_steps | PSNR ↑ | network calls | seconds |"
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| 1", "2"], ["| 1", "3"], ["| 10", "2"], ["| 10", "3"]]
    assert (store / "sweep.png").stat().st_size > 1000
    with Store.reading(store) as opened:
        found = []
        for unit in opened.units():
            if unit["solver"] == "weight = 10, n_steps = 3":
                problem = load_measurement(opened, unit["hash"], unit["measurement"]).problem(textures(side=8))
                item = json.loads(opened.content(unit["hash"]))["item"]
                found.append(iv.solve(problem, solvers.NDTM(weight=10, n_steps=3), items=[item]).samples[0])
                stored = opened.output(unit["hash"])["samples"]
                assert torch.equal(stored, found[-1].float().half())
        assert len(found) == 2


def test_what_cannot_be_swept_is_refused_before_any_work(tmp_path, capsys):
    words = ["bench", "sweep", "--store", str(tmp_path / "store"), "--set"]
    for more, answer in (
        (["n_stepz=1,2"], "n_steps"),
        (["n_steps=2", "--task", "denoise", "--factor", "2"], "the task denoise has no option --factor"),
        (["n_steps=2", "--preset", "ffhq256/superes4"], "ffhq256/superres4"),
        (["n_steps=2", "--seeds", "0"], "--seeds"),
    ):
        assert main([*words, *more]) == 2
        assert answer in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_control_images_are_of_solvers_that_report_a_control():
    from invsolve import costs, operators

    y = torch.zeros(1, 1, 16, 16)
    problem = iv.Problem(load("digits"), costs.GaussianLikelihood(operators.Denoising((1, 16, 16)), y, 0.1))
    with pytest.raises(iv.InputError, match="use NDTM"):
        iv.solve(problem, solvers.DPS(n_steps=2), callbacks=[ControlImages(problem)])
    images = ControlImages(problem)
    done = iv.solve(problem, solvers.NDTM(n_steps=3, start="random"), callbacks=[images])
    assert torch.equal(images.estimates[-1], done.samples[0, 0])
    assert len(images.controls) == len(images.estimates)
