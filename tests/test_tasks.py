"""Tasks: each declares itself once, and is then known to every command, in Python, to suites and to tuning."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from test_restore import SmoothPrior, photograph

import invsolve as iv
from invsolve.bench.reading import load_suite
from invsolve.bench.tasks import Measurement, measure
from invsolve.commands.cli import main
from invsolve.core.checks import InputError
from invsolve.core.options import filled, options_of
from invsolve.io import Image, read_image, write_image
from invsolve.restoration.settings import table
from invsolve.tasks import TASKS
from invsolve.tune.tasks import sections

SUITE = """
[data]
kind = "packaged"
size = 24
[prior]
name = "test_restore:smooth"
[[tasks]]
name = "wider"
kind = "extend"
margin = 3
[[solvers]]
name = "pnp-hqs"
settings = { n_steps = 2 }
[[solvers]]
name = "baseline"
baseline = true
"""


@pytest.fixture
def extend(tmp_path, monkeypatch):
    """The task `extend` as an installed package would add it: by an entry point."""
    info = tmp_path / "site" / "extend_task-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extend-task\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[invsolve.tasks]\nextend = extend:Extend\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)
    TASKS.__dict__.pop("_entries", None)
    yield tmp_path
    TASKS.__dict__.pop("_entries", None)


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["restore", "tune"])
def test_help_lists_the_options_of_tasks_that_are_installed(extend, command, capsys):
    found = help_of(command, capsys)
    assert "--margin PIXELS extend: pixels added on each side (default 16)" in found
    assert "superres: how many times larger (default 4)" in found


def test_help_without_the_task_has_none_of_its_options(capsys):
    assert "margin" not in help_of("restore", capsys)


def test_python_and_the_command_line_take_the_option(extend, capsys):
    wider = iv.restore(photograph(24, 28), "extend", margin=4, noise=0.01, prior=SmoothPrior(), settings={"n_steps": 3})
    assert wider.image.size == wider.degraded.shape[1:] == (32, 36)
    inner = wider.image.pixels[:, 4:-4, 4:-4]
    assert (inner - photograph(24, 28)).square().mean().sqrt() < 0.02
    assert wider.record["task"] == {"name": "extend", "simulated": False, "margin": 4}
    with pytest.raises(InputError, match="--margin belongs to the task extend, not to denoise"):
        iv.restore(photograph(24, 28), "denoise", margin=4, noise=0.01, prior=SmoothPrior())
    with pytest.raises(InputError, match="margin must be a whole number of at least 1, got 'wide'"):
        iv.restore(photograph(24, 28), "extend", margin="wide", noise=0.01, prior=SmoothPrior())
    write_image(extend / "in.png", Image(photograph(24, 28)))
    words = ["restore", "in.png", "--task", "extend", "--noise", "0.01", "--prior", "test_restore:smooth"]
    assert main([*words, "--set", "n_steps=2", "--margin", "5"]) == 0
    assert read_image(extend / "in-restored.png").size == (34, 38)
    assert json.loads((extend / "in-restored.json").read_text())["task"]["margin"] == 5
    assert main([*words, "--margin", "0", "-o", "x.png"]) == 2
    assert "margin must be a whole number of at least 1" in capsys.readouterr().err


def test_suites_and_their_overrides_take_the_option(extend, capsys):
    (extend / "own.toml").write_text(SUITE)
    suite = load_suite("own.toml", trust=True)
    assert suite.tasks[0].options == {"margin": 3}
    assert suite.solvers[0].settings["wider"]["lam"] == table("natural")["inpaint"]["pnp-hqs"]["lam"]
    assert load_suite("own.toml", [("task.margin", 5)], trust=True).tasks[0].options == {"margin": 5}
    assert load_suite("own.toml", [("wider.noise", 0.1)], trust=True).tasks[0].noise == 0.1
    with pytest.raises(InputError, match="did you mean 'margin'"):
        load_suite("own.toml", [("task.margn", 5)], trust=True)
    made = measure(suite.tasks[0], torch.rand(3, 24, 24), "item", 0)
    assert made.y.shape == (3, 18, 18)
    assert Measurement.from_tensors(suite.tasks[0], made.tensors()).operator.in_shape == (3, 24, 24)
    run = ["bench", "run", "own.toml", "--store", "runs", "--items", "1", "--workers", "1", "--set", "task.margin=2"]
    run.append("--trust")
    assert main(run) == 0, capsys.readouterr().err


def test_tuning_draws_the_task_with_its_option(extend):
    assert [spec.kind for spec in sections(["extend"])["inpaint"]] == ["extend"]
    changed = sections(["extend"], {"margin": 6, "noise": 0.02})
    assert [(spec.options, spec.noise) for spec in changed["inpaint"]] == [({"margin": 6}, 0.02)]
    assert [spec.options for spec in sections(["superres"], {"factor": 3})["superres4"]] == [{"factor": 3}]
    with pytest.raises(InputError, match="none of the tasks to tune has the option --margin"):
        sections(["denoise"], {"margin": 6})
    with pytest.raises(InputError, match="did you mean 'extend'"):
        sections(["extent"])
    assert list(sections(["superres"])) == ["superres2", "superres4"]
    assert [spec.kind for spec in sections()["inpaint"]] == ["extend", "inpaint"]
    assert [spec.kind for spec in sections(["inpaint"])["inpaint"]] == ["inpaint"]
    assert list(sections()) == ["deblur", "demosaic", "denoise", "inpaint", "jpeg", "superres2", "superres4"]


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_says_what_its_options_are(name):
    for kind in (TASKS[name].option_type(), TASKS[name].suite_type()):
        for each in options_of(kind).values():
            assert each.help
            assert each.kinds


def test_options_are_checked_by_their_types():
    kind = TASKS["inpaint"].suite_type()
    for values, words in (
        ({"missing": "much"}, "missing must be a finite number in .* got 'much'"),
        ({"missing": True}, "missing must be .* got True"),
        ({"box": 1.5}, "box must be a whole number of at least 1 or None, got 1.5"),
        ({"boxes": 1}, "did you mean 'box'"),
    ):
        with pytest.raises(InputError, match=words):
            filled(kind, values, "inpaint")
    assert filled(kind, {"missing": 0.5}, "inpaint").missing == 0.5


def test_the_plug_in_is_found_by_its_entry_point_alone(extend):
    assert "extend" in TASKS
    assert TASKS["extend"].__module__ == "extend"
    assert Path(sys.modules["extend"].__file__ or "").name == "extend.py"
