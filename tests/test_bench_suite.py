"""Suites: shipped ones load, typos are answered with the nearest key, units are named by what decides them."""

from __future__ import annotations

import dataclasses
import os
import tomllib

import pytest
import torch
from benchtoy import TOML, toy, write_suite
from PIL import Image as pillow

from invsolve import Rng
from invsolve.bench.data import find_items
from invsolve.bench.reading import load_suite, shipped
from invsolve.bench.runner import run
from invsolve.bench.scoring import load_measurement
from invsolve.bench.store import Store
from invsolve.bench.suite import DataSpec, TaskSpec
from invsolve.bench.table import published_rows
from invsolve.bench.tasks import Measurement, measure
from invsolve.bench.toml_text import toml_text, toml_value
from invsolve.bench.unit import enumerate_units, prior_digest
from invsolve.core.checks import InputError
from invsolve.io.folder import images_in
from invsolve.solvers import SOLVERS
from invsolve.testing.toy import textures
from invsolve.tune.images import crops


@pytest.mark.parametrize("name", shipped())
def test_shipped_suites_load_and_survive_their_own_text(name, tmp_path):
    suite = load_suite(name)
    (tmp_path / f"{name}.toml").write_text(suite.source)
    assert load_suite(tmp_path / f"{name}.toml") == suite


def test_the_published_protocol_has_the_published_settings():
    suite = load_suite("ffhq256")
    ndtm = next(solver for solver in suite.solvers if solver.name == "ndtm")
    built = SOLVERS["ndtm"].preset("ffhq256/superres4")
    assert ndtm.settings["superres4"] == {f.name: getattr(built, f.name) for f in dataclasses.fields(built)}
    assert suite.task("superres4").noise == 0.005  # 0.01 in [-1, 1]
    assert suite.task("inpaint").options == {"missing": 0.9}
    rows = {row["solver"]: row for row in published_rows("ffhq256")["superres4"]}
    assert rows["NDTM"] == {
        "solver": "NDTM", "lpips": 0.054, "fid": 18.99, "kid": 0.0019, "psnr": 29.06, "ssim": 0.833, "seconds": 13.6,
    }  # fmt: skip
    tables = published_rows("c2fg")
    best = min(tables["imagenet256-250steps"], key=lambda row: row["fid"])
    assert (best["solver"], best["fid"], best["recall"]) == ("SiT-XL/2 REPA, C2FG (1.8, 0.03) on [0, 0.7]", 1.41, 0.65)
    assert tables["imagenet256-25steps"][-1]["inception-score"] == 294.03
    assert sum(map(len, tables.values())) == 50
    assert "counts missing pixels as measured" in published_rows("ffhq256")["inpaint"][1]["note"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("missing = 0.5", "mising = 0.5", "no key 'mising'.*did you mean 'missing'"),
        ('kind = "superres"', 'kind = "superes"', "did you mean 'superres'"),
        ('name = "ddnm"', 'name = "ddn"', "did you mean 'ddnm'"),
        ("n_steps = 5", "n_step = 5", "did you mean 'n_steps'"),
        ('"misfit"', '"misfits"', "did you mean 'misfit'"),
        ("samples = 4", "sample = 4", "did you mean 'samples'"),
        ("samples = 4", "samples = 0", "samples and threads of at least 1"),
        ("samples = 4", 'samples = "4"', "samples must be int"),
        ("missing = 0.5", "missing = 1.5", "missing must be a finite number in"),
        ("factor = 2", "factor = 2.5", "factor must be a whole number of at least 2"),
        ("noise = 0.05", "noise = 5", "noise must be above 0 and at most 1"),
        ('kind = "draws"', 'kind = "drows"', "did you mean 'draws'"),
        ('preset = "default"', 'preset = "published:ffhq256"', "no preset 'ffhq256/superres2'"),
        ("n_steps = 5", 'n_steps = "5"', "n_steps must be a whole number"),
        ('[[solvers]]\nname = "baseline"', '[[solvers]]\nname = "ddnm"', "two solvers of the suite are named 'ddnm'"),
        ("baseline = true", 'peer = "deepinv DP"', "did you mean 'deepinv DPS'"),
        ("items = 3", "items = ", "the suite toy is not valid TOML"),
    ],
)
def test_a_typo_is_answered_with_what_was_meant(old, new, message, tmp_path):
    with pytest.raises(InputError, match=f"(?s){message}"):
        load_suite(write_suite(tmp_path, TOML.replace(old, new, 1)))


@pytest.mark.parametrize("changes", [[], [("data.items", 1), ("task.noise", 0.1), ("solver.n_steps", 4)]])
@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("data", "x", "data must be a table"),
        ("prior", {"options": 3}, r"\[prior\] of the suite: options must be a table"),
        ("prior", {"name": 3}, r"\[prior\] of the suite: name must be str"),
        ("run", {"metrics": [3]}, "metrics must be a list of str"),
        ("run", {"seeds": ["a"]}, "each of seeds must be int"),
        ("tasks", "x", "tasks must be a list"),
        ("tasks", [3], "every task of the suite needs a name"),
        ("solvers", ["x"], "every solver of the suite needs a name"),
        ("solvers", [{"name": "ddnm", "settings": "x"}], "the solver 'ddnm' of the suite: settings must be a table"),
        ("solvers", [{"name": "ddnm", "preset": 5}], "the solver 'ddnm' of the suite: preset must be str"),
        ("solvers", [{"name": "ddnm", "tasks": 5}], "the solver 'ddnm' of the suite: tasks must be a list"),
    ],
)
def test_values_of_a_wrong_type_are_refused(part, value, message, changes, tmp_path):
    table = tomllib.loads(TOML)
    table[part] = value
    lines = [f"{key} = {toml_value(item)}" for key, item in table.items()]
    with pytest.raises(InputError, match=message):
        load_suite(write_suite(tmp_path, "\n".join(lines)), changes)


def test_settings_of_the_command_line(tmp_path):
    path = write_suite(tmp_path)
    suite = load_suite(path, [("solver.n_steps", 7), ("run.samples", 2), ("data.items", 1)])
    assert suite.solvers[1].settings["inpaint"]["n_steps"] == 7
    assert (suite.solvers[1].samples, suite.data.items) == (2, 1)
    assert load_suite(path, [("ddnm.eta", 0.5)]).solvers[1].settings["inpaint"]["eta"] == 0.5
    with pytest.raises(InputError, match="did you mean 'ddnm'"):
        load_suite(path, [("ddmn.eta", 0.5)])
    with pytest.raises(InputError, match=r"has the setting 'n_step'.*did you mean 'n_steps'"):
        load_suite(path, [("solver.n_step", 5)])
    with pytest.raises(InputError, match=r"PART\.NAME=VALUE"):
        load_suite(path, [("n_steps", 7)])


def test_a_unit_is_named_by_what_decides_it_and_by_nothing_else(tmp_path):
    def names(text: str = TOML, digest: str = "weights") -> dict[tuple[str, str, str], tuple[str, str]]:
        suite = toy(tmp_path, text)
        items = find_items(suite.data, textures(side=8))
        units = enumerate_units(suite, items, digest)
        return {(u.item, u.task, u.solver): (u.hash, u.measurement) for u in units}

    base = names()
    assert len(base) == 12
    assert len({hash for hash, _ in base.values()}) == 12
    assert len({measurement for _, measurement in base.values()}) == 6  # shared by all solvers
    assert names(TOML.replace('title = "toy"', 'title = "x"').replace('"psnr", ', "")) == base
    key = ("draw 0", "inpaint", "ddnm")
    assert names(TOML.replace('name = "inpaint"', 'name = "holes"'))["draw 0", "holes", "ddnm"] == base[key]
    changed = names(TOML.replace("n_steps = 5", "n_steps = 6"))
    assert changed[key][0] != base[key][0]
    assert changed[key][1] == base[key][1]
    assert changed["draw 0", "inpaint", "baseline"] == base["draw 0", "inpaint", "baseline"]
    assert names(TOML.replace("missing = 0.5", "missing = 0.4"))[key][1] != base[key][1]
    assert names(TOML.replace("samples = 4", "samples = 4\nseeds = [1]"))[key][1] != base[key][1]
    assert names(digest="others")[key][0] != base[key][0]


def test_the_digest_of_a_prior_sees_its_weights():
    from invsolve.priors import NetworkPrior

    class Net(torch.nn.Module):
        def __init__(self, weight: float) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(weight))

        def forward(self, x, c):
            return self.weight * x

    first, again, other = (prior_digest(NetworkPrior(Net(w))) for w in (1.0, 1.0, 1.5))
    assert first == again != other


KINDS = [
    TaskSpec("a", "denoise", 0.1),
    TaskSpec("b", "superres", 0.1, {"factor": 2}),
    TaskSpec("c", "inpaint", 0.1, {"missing": 0.7}),
    TaskSpec("d", "inpaint", 0.1, {"box": 6}),
    TaskSpec("e", "deblur", 0.1, {"std": 1.0}),
    TaskSpec("f", "deblur", 0.1, {"length": 5.0, "intensity": 0.5}),
    TaskSpec("g", "blind-deblur", 0.1, {"side": 9, "std": 1.0}),
    TaskSpec("h", "operator", 0.1, {"operator": "gaussian-blur", "options": {"std": 1.0}}),
    TaskSpec("i", "operator", 0.1, {"operator": "inpainting", "options": {"mask": [[1, 0] * 16] * 32}}),
]


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: f"{spec.name} {spec.kind}")
def test_a_measurement_is_the_operator_of_the_truth_and_noise_of_the_right_size(spec):
    image = Rng(0).uniform(torch.empty(1, 3, 32, 32))[0]
    made = measure(spec, image, "item", 0)
    again = Measurement.from_tensors(spec, made.tensors())
    scene = torch.zeros(1, *again.operator.in_shape)
    scene[..., :32, :32] = image
    theta = {"kernel": made.drawn["kernel"][None]} if spec.kind == "blind-deblur" else {}
    residual = again.residual(scene, theta)
    assert residual.square().mean().sqrt().item() == pytest.approx(1.0, abs=0.1)
    assert again.visible(scene)[0].shape == again.truth.shape == again.shown().shape
    assert torch.equal(again.visible(scene)[0][..., 8:12, 8:12], again.truth[..., 8:12, 8:12])
    assert torch.equal(made.y, measure(spec, image, "item", 0).y)
    assert not torch.equal(made.y, measure(spec, image, "item", 1).y)
    assert not torch.equal(made.y, measure(spec, image, "another", 0).y)
    if spec.options.get("operator") == "inpainting":
        assert not made.y[..., 1::2].any()
    if "mask" in made.drawn:
        share = spec.options.get("missing", 36 / 32**2)
        assert made.drawn["mask"].float().mean().item() == pytest.approx(share, abs=0.06)
        assert not made.y[:, made.drawn["mask"]].any()


def test_images_are_named_by_their_content(tmp_path):
    from invsolve.io import Image, write_image

    for i, name in enumerate(("b", "a")):
        write_image(tmp_path / f"{name}.png", Image(Rng(i).uniform(torch.empty(1, 3, 20, 24))[0]))
    items = find_items(DataSpec("folder", str(tmp_path), size=16))
    assert [item.name for item in items] == ["a", "b"]
    assert items[0].load().shape == (3, 16, 16)
    (tmp_path / "a.png").rename(tmp_path / "c.png")
    renamed = find_items(DataSpec("folder", str(tmp_path), size=16))
    assert renamed[1].digest == items[0].digest
    assert find_items(DataSpec("folder", str(tmp_path), size=8))[1].digest != items[0].digest
    with pytest.raises(InputError, match="24 x 20 pixels, the suite cuts squares of 22"):
        find_items(DataSpec("folder", str(tmp_path), size=22))[0].load()
    assert find_items(DataSpec("folder", str(tmp_path), size=22, fit="resize"))[0].load().shape == (3, 22, 22)
    (tmp_path / "list.txt").write_text("# two\nc.png\n\nb.png\n")
    listed = find_items(DataSpec("list", str(tmp_path / "list.txt"), items=1))
    assert [item.name for item in listed] == ["c"]
    (tmp_path / "list.txt").write_text("gone.png\n")
    with pytest.raises(InputError, match=r"gone\.png, which is not there"):
        find_items(DataSpec("list", str(tmp_path / "list.txt")))
    for name, message in (
        ("b.png", "is an image, where a folder or a list"),
        ("list.txt", "not a valid list of images"),
    ):
        (tmp_path / "list.txt").write_bytes(b"\xff\xfe")
        with pytest.raises(InputError, match=message):
            find_items(DataSpec("list", str(tmp_path / name)))
    with pytest.raises(InputError, match="--data"):
        find_items(DataSpec("folder", ""))
    with pytest.raises(InputError, match="no folder of images"):
        find_items(DataSpec("folder", str(tmp_path / "none")))


@pytest.mark.parametrize(
    "search", [lambda at: [i.name for i in find_items(DataSpec("folder", str(at)))], lambda at: crops(at, 2, 8)]
)
def test_a_folder_is_searched_for_all_that_can_be_read_and_no_hidden_files(search, tmp_path):
    for name in ("a.png", "b.gif"):
        pillow.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "._a.jpg").write_bytes(b"of a file system")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "c.png").write_bytes(b"of a program")
    (tmp_path / "d.png").mkdir()
    assert len(search(tmp_path)) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_in_a_folder_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "a.heic").touch()
    assert images_in(tmp_path) == [tmp_path / "a.heic"]


def test_the_packaged_images_are_there():
    items = find_items(DataSpec("packaged", size=96))
    assert [item.name for item in items] == ["astronaut", "chelsea", "coffee", "rocket"]
    assert items[0].load().shape == (3, 96, 96)


def test_suite_text_round_trip():
    tasks = [{"name": "x", "options": {"a": [1, 2]}}]
    table = {"title": 'a "b"', "data": {"items": 2}, "tasks": tasks, "solvers": [{"name": "y", "baseline": True}]}
    assert tomllib.loads(toml_text(table)) == table


def test_a_task_whose_file_is_not_here_is_left_out_and_said(tmp_path, monkeypatch):
    monkeypatch.setenv("INVSOLVE_WEIGHTS", str(tmp_path))
    without = load_suite("ffhq256")
    assert "deblur-nonlinear is left out, weights missing: put GOPRO_wVAE.pth into" in without.note
    assert "deblur-nonlinear" not in [task.name for task in without.tasks]
    assert "dmplug non-linear" not in [row.name for row in without.solvers]
    (tmp_path / "GOPRO_wVAE.pth").write_bytes(b"stands for it")
    suite = load_suite("ffhq256")
    assert "left out" not in suite.note
    assert [task for task in suite.tasks if task.name != "deblur-nonlinear"] == list(without.tasks)
    ndtm = next(row for row in suite.solvers if row.name == "ndtm").settings["deblur-nonlinear"]
    assert ndtm["weights"] == "zero"
    assert ndtm == {name: getattr(SOLVERS["ndtm"].preset("ffhq256/deblur-nonlinear"), name) for name in ndtm}


def test_a_suite_of_tasks_that_cannot_run_here_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("INVSOLVE_WEIGHTS", str(tmp_path))
    text = (
        '[data]\nkind = "packaged"\n[[tasks]]\nname = "a"\nkind = "nonlinear-deblur"\noperator_weights = "w.pth"\n'
        'optional = true\n[[solvers]]\nname = "dps"\n'
    )
    (tmp_path / "one.toml").write_text(text)
    with pytest.raises(InputError, match=r"no task of the suite can run here; weights missing: put w\.pth into"):
        load_suite(tmp_path / "one.toml")
    (tmp_path / "one.toml").write_text(text.replace("optional = true", "optional = 1"))
    with pytest.raises(InputError, match="optional must be bool, got 1"):
        load_suite(tmp_path / "one.toml")
    (tmp_path / "one.toml").write_text(text.replace("optional = true", ""))
    assert [task.name for task in load_suite(tmp_path / "one.toml").tasks] == ["a"]  # it runs, and says what is missing


@pytest.mark.parametrize("name", ["ffhq256", "imagenet256"])
def test_a_published_protocol_runs_on_a_stand_in(name, tmp_path, monkeypatch):
    from invsolve.io import Image, write_image
    from invsolve.operators.kernel_wizard import KernelWizard
    from invsolve.tasks import nonlinear_deblur

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = KernelWizard(width=4, front=1, back=1)
    monkeypatch.setattr(nonlinear_deblur, "_network", lambda path: network)
    monkeypatch.setenv("INVSOLVE_WEIGHTS", str(tmp_path))
    (tmp_path / "GOPRO_wVAE.pth").write_bytes(b"stands for it")
    (tmp_path / "data").mkdir()
    image = Rng(0).uniform(torch.empty(1, 3, 260, 270))[0]
    write_image(tmp_path / "data" / "face.png", Image(image))
    changes = [("data.path", str(tmp_path / "data")), ("prior.name", "invsolve.testing.toy:white")]
    quick = [("solver.n_steps", 2), ("solver.n_iterations", 2), ("ndtm.n_inner", 1)]
    quick += [("ndtm fast.n_inner", 1), ("ndtm best.n_inner", 1)] if name == "ffhq256" else []
    quick = [change for change in quick if name == "ffhq256" or change[0] != "solver.n_iterations"]
    with Store.writing(tmp_path / "store") as store:
        run(load_suite(name, [*changes, *quick]), store)
        status = {(u["task"], u["solver"]): (u["status"], u["error"]) for u in store.units()}
        assert {key: value for key, value in status.items() if value[0] != "ok"} == {}
        assert ("deblur-nonlinear", "ndtm") in status
        if name == "ffhq256":
            unit = next(u for u in store.units() if u["task"] == "blind-motion" and u["solver"] == "ndtm fast")
            assert store.output(unit["hash"])["theta.kernel"].shape == (1, 64, 64)


@pytest.mark.parametrize("name", ["cbsd68", "div2k"])
def test_deepinv_s_benchmarks_have_its_physics(name, tmp_path):
    from torchvision.transforms import Compose, Resize, ToTensor

    from invsolve.bench.deepinv_benchmarks import BENCHMARKS, physics
    from invsolve.io import Image, write_image

    pixels = Rng(0).uniform(torch.empty(1, 3, 90, 120))[0]
    (tmp_path / "data").mkdir()
    path = write_image(tmp_path / "data" / "one.png", Image(pixels, None, 8))
    suite = load_suite(name, [("data.path", str(path.parent)), ("data.size", 64)])
    expected = Compose([Resize((64, 64)), ToTensor()])(pillow.open(path))
    with Store.writing(tmp_path / "store") as store:
        run(suite, store, only=["solver=pnp-hqs", "solver=*ie*", "solver=Lanczos", "solver=deepinv RAM"])
        units = {(u["task"], u["solver"]): u for u in store.units() if u["status"]}
        for (task, solver), unit in units.items():
            measurement = load_measurement(store, unit["hash"], unit["measurement"])
            assert torch.equal(measurement.truth, expected)
            theirs = physics(next(b for b in BENCHMARKS if b.endswith(task.replace("-", "_"))), (3, 64, 64))
            clean = theirs.A(expected[None])[0]
            noise = (measurement.y - clean).square().mean().sqrt()
            assert float(noise) == pytest.approx(suite.task(task).noise, rel=0.1, abs=1e-6)
            if solver == "deepinv RAM":
                assert unit["status"] == "unable"
                assert "ram.pth.tar" in unit["error"]
            else:
                assert unit["status"] == "ok", unit["error"]
        assert len(units) >= 2 * len(suite.tasks)
