"""Tuning: a search that can be stopped and goes on, and a table that the library reads."""

from __future__ import annotations

import tomllib

import pytest
import torch

from invsolve import Rng, restore, solve
from invsolve.bench.data import packaged
from invsolve.bench.tasks import measure
from invsolve.commands.cli import main
from invsolve.commands.tune import preset_text
from invsolve.core.checks import InputError
from invsolve.io import Image, write_image
from invsolve.solvers import PnPHQS
from invsolve.testing.toy import textures, white
from invsolve.tune import search as search_module
from invsolve.tune.images import crop_of_rank, crops, detailed_crops
from invsolve.tune.search import Search, tune
from invsolve.tune.spaces import SPACES, inside
from invsolve.tune.tasks import sections


@pytest.fixture
def small(monkeypatch) -> None:
    """Spaces small enough for a test: one good setting and a hopeless one."""
    from invsolve.tune.spaces import Choice

    pytest.importorskip("optuna")
    monkeypatch.setitem(SPACES, "ddnm", ({}, {"n_steps": Choice((1, 8)), "eta": Choice((0.85,))}))


def search(folder, **changes) -> Search:
    prior = textures(side=8)
    images = ((prior.sample(3, Rng(0)) + 1) / 2).float()
    return Search(prior, "natural", images, folder / "trials.db", **{"trials": 8, **changes})


@pytest.mark.usefixtures("small")
def test_the_better_setting_is_found_and_a_second_session_adds_only_what_is_missing(tmp_path):
    judged = []
    best = tune(search(tmp_path, trials=5), "ddnm", "inpaint", judged.append)
    again = tune(search(tmp_path, trials=5), "ddnm", "inpaint", lambda trial: pytest.fail("nothing was left to do"))
    assert again == best
    more = tune(search(tmp_path, trials=8), "ddnm", "inpaint", judged.append)
    values = {t.settings["n_steps"]: t.values[0] for t in judged}
    assert more.settings["n_steps"] == max(values, key=lambda n: values[n])
    assert more.calls == more.settings["n_steps"]


@pytest.mark.usefixtures("small")
def test_the_present_settings_are_tried_after_an_interruption_in_the_first_candidate(tmp_path, monkeypatch):
    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(search_module, "inside", lambda solver, settings: {"n_steps": 1, "eta": 0.85})
    with monkeypatch.context() as patch:
        patch.setattr(search_module, "solve", stopped)
        with pytest.raises(KeyboardInterrupt):
            tune(search(tmp_path), "ddnm", "inpaint")
    judged = []
    tune(search(tmp_path, trials=1), "ddnm", "inpaint", judged.append)
    assert [trial.settings["n_steps"] for trial in judged] == [1]
    tune(search(tmp_path, trials=2), "ddnm", "inpaint", judged.append)
    assert len(judged) == 2


def test_crops_for_calibration_are_the_detailed_half_and_do_not_depend_on_their_number(tmp_path):
    rows = (torch.linspace(0, 1, 160) ** 2).expand(3, 48, -1)  # the detail grows from left to right
    for name in "abcd":
        write_image(tmp_path / f"{name}.png", Image(rows))
    four, two = detailed_crops(tmp_path, 4, 32), detailed_crops(tmp_path, 2, 32)
    assert torch.equal(four[::2], two)
    detail = [float(crop.diff(dim=2).mean()) for crop in four]
    middling = float(crop_of_rank(rows, 32, 0.5).diff(dim=2).mean())
    assert min(detail) >= middling - 1e-3
    assert len(set(detail)) > 2


@pytest.mark.usefixtures("small")
def test_several_metrics_are_searched_together(tmp_path):
    best = tune(search(tmp_path, metrics=("misfit", "calls"), trials=4), "ddnm", "inpaint")
    assert best.values[1] == best.calls


def test_what_cannot_be_tuned_is_said_at_once(tmp_path):
    with pytest.raises(InputError, match=r"did you mean .*'ddnm'"):
        tune(search(tmp_path), "ddmn", "inpaint")
    with pytest.raises(InputError, match="did you mean 'inpaint'"):
        tune(search(tmp_path), "ddnm", "inpain")
    with pytest.raises(InputError, match="did you mean 'psnr'"):
        search(tmp_path, metrics=("pnsr",))
    with pytest.raises(InputError, match="holds 0 images, 2 are needed"):
        crops(tmp_path, 2, 8)
    (tmp_path / "x.png").write_bytes(packaged()[0].read_bytes())
    with pytest.raises(InputError, match="is the image astronaut, on which the suites report"):
        crops(tmp_path, 1, 8)


@pytest.mark.parametrize("section", ["denoise", "superres2", "inpaint", "deblur"])
def test_what_is_tuned_is_what_restore_does(section):
    """The restoration of a tuning measurement, and its score, are those of `restore` given the same measurement."""
    spec, image = sections()[section][0], Rng(0).uniform(torch.empty(1, 3, 48, 48))[0]
    measurement = measure(spec, image, "tuning image 0", 0)
    solver, prior = PnPHQS(n_steps=3), white()
    tuned = measurement.visible(solve(measurement.problem(prior), solver, items=[0]).samples[0])[0].clamp(0, 1)
    options = {
        "denoise": {},
        "superres2": {"factor": 2, "downsampling": "bicubic"},
        "inpaint": {"mask": measurement.drawn["mask"].float()[None] if section == "inpaint" else None},
        "deblur": {"blur_sigma": 2.0},
    }[section]
    done = restore(measurement.y, spec.kind, noise=spec.noise, solver=solver, prior=prior, **options)
    torch.testing.assert_close(done.image.pixels, tuned, atol=1e-4, rtol=0)


def test_settings_outside_the_space_are_no_start():
    assert inside("ddnm", {"n_steps": 24, "t_start": 0.5, "eta": 0.85}) == {"n_steps": 24, "t_start": 0.5, "eta": 0.85}
    assert inside("ddnm", {"n_steps": 23, "t_start": 0.5, "eta": 0.85}) is None
    assert inside("ddnm", {"n_steps": 24}) is None


def test_a_sampler_pays_for_a_misfit_and_a_mode_seeker_does_not(tmp_path):
    scores = {"psnr": [30.0], "misfit": [2.0]}
    sampler = search_module._found(search(tmp_path), "ddnm", {}, scores, 1.0)
    assert sampler.values[0] == pytest.approx(30 - 2 * 0.9)
    for name in ("pnp-hqs", "red-diff"):
        seeker = search_module._found(search(tmp_path), name, {}, scores, 1.0)
        assert seeker.values == (30.0,)


def test_the_table_keeps_what_was_not_tuned():
    trial = search_module.Trial({"n_steps": 24, "eta": 0.5}, (31.0,), 31.0, 1.0, 24.0)
    present = {"inpaint": {"point": "pnp-hqs", "samples": "ndtm", "pnp-hqs": {"n_steps": 4}}, "deblur": {"point": "x"}}
    table = tomllib.loads(preset_text(["made"], {"inpaint": {"ddnm": trial}}, {"inpaint": present["inpaint"]}))
    assert table["inpaint"] == {**present["inpaint"], "ddnm": {"n_steps": 24, "eta": 0.5}}


@pytest.mark.usefixtures("small")
def test_the_command_writes_a_table_with_its_provenance(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for i in range(2):
        image = Rng(i).uniform(torch.empty(1, 3, 12, 12))[0]
        write_image(tmp_path / "photos" / f"{i}.png", Image(image))
    out = tmp_path / "presets.toml"
    words = ["tune", "--images", str(tmp_path / "photos"), "--solver", "ddnm", "--task", "inpaint", "--trials", "2"]
    words += ["--crops", "2", "--size", "8", "--prior", "invsolve.testing.toy:textures", "-o", str(out)]
    assert main(words) == 2  # textures of 12 pixels, crops of 8
    words[words.index("--size") + 1] = "12"
    assert main(words) == 0
    assert capsys.readouterr().out.strip() == str(out)
    text = out.read_text()
    assert "# Made by: invsolve tune --images PHOTOS" in text
    assert "SHA-256" in text
    assert tomllib.loads(text)["inpaint"]["ddnm"]["eta"] == 0.85


@pytest.mark.usefixtures("small")
def test_a_table_keeps_what_earlier_runs_wrote_and_no_other_file_is_replaced(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos" / "0.png", Image(Rng(0).uniform(torch.empty(1, 3, 12, 12))[0]))
    out = tmp_path / "presets.toml"
    words = ["tune", "--images", str(tmp_path / "photos"), "--solver", "ddnm", "--trials", "1", "--crops", "1"]
    words += ["--size", "12", "--prior", "invsolve.testing.toy:textures", "-o", str(out)]
    assert main([*words, "--task", "inpaint"]) == 0
    first = out.read_text()
    assert main([*words, "--task", "inpaint"]) == 0  # nothing is left to do
    assert out.read_text() == first
    assert main([*words, "--task", "superres2"]) == 0
    both = out.read_text()
    assert tomllib.loads(both)["inpaint"] == tomllib.loads(first)["inpaint"]
    assert "superres2" in tomllib.loads(both)
    assert first[first.index("[inpaint]") :].strip() in both  # with the comment about its PSNR
    assert both.count("# Made by: ") == 2
    assert main([*words, "--task", "superres2", "--overwrite"]) == 0
    assert "inpaint" not in tomllib.loads(out.read_text())
    for text in ("[inpaint]\npoint = 'ddnm'\n", both.replace("invsolve.testing.toy:textures", "digits")):
        out.write_text(text)
        capsys.readouterr()
        assert main([*words, "--task", "inpaint"]) == 2
        assert "presets.toml already exists" in capsys.readouterr().err
        assert out.read_text() == text


def test_trials_belong_to_the_weights_of_the_prior(tmp_path):
    from dataclasses import replace

    from invsolve.priors import NetworkPrior

    names = set()
    for value in (0.5, 0.6):
        module = torch.nn.Conv2d(3, 3, 1)
        torch.nn.init.constant_(module.weight, value)
        torch.nn.init.zeros_(module.bias)
        names.add(search_module._study_name(replace(search(tmp_path), prior=NetworkPrior(module)), "ddnm", "inpaint"))
    assert len(names) == 2


@pytest.mark.usefixtures("small")
def test_a_solver_that_cannot_do_a_task_costs_the_others_nothing(tmp_path, capsys, caplog, monkeypatch):
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos" / "0.png", Image(Rng(0).uniform(torch.empty(1, 3, 12, 12))[0]))
    out, whole = tmp_path / "presets.toml", search_module.tune

    def some(search, solver, section, report):
        if section == "superres2":
            raise search_module.NoCandidate("no singular value decomposition")
        return whole(search, solver, section, report)

    monkeypatch.setattr(search_module, "tune", some)
    words = ["tune", "--images", str(tmp_path / "photos"), "--solver", "ddnm", "--trials", "2", "--crops", "1"]
    words += ["--size", "12", "--prior", "invsolve.testing.toy:textures", "-o", str(out)]
    assert main([*words, "--task", "inpaint", "superres2"]) == 0
    assert "ddnm is left out for superres2: no singular value decomposition" in caplog.text
    assert "ddnm" in tomllib.loads(out.read_text())["inpaint"]
    assert main([*words, "--task", "superres2"]) == 2
    assert "no solver has settings for any of the tasks" in capsys.readouterr().err
