"""Running suites: failures are rows, nothing is lost or computed twice, and how a suite is run changes nothing."""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchtoy import TOML, final_table, toy, write_suite

from benchmarks.leaderboard.simulated import simulated
from invsolve import Rng, priors, solve, solvers
from invsolve.bench import environment as environment_module
from invsolve.bench import store as store_module
from invsolve.bench.execute import execute, load_spec_prior
from invsolve.bench.intervals import interval_of_unit
from invsolve.bench.outcomes import StoreFull
from invsolve.bench.reading import load_suite
from invsolve.bench.report import write_report
from invsolve.bench.runner import run
from invsolve.bench.scoring import load_measurement, restored, score
from invsolve.bench.store import Store
from invsolve.bench.table import tables
from invsolve.core.checks import InputError, InvsolveError
from invsolve.execution.executor import Event, Here
from invsolve.execution.memory import peak as peak_on
from invsolve.execution.workers import Workers
from invsolve.metrics.intervals import pixel_scale
from invsolve.restoration.calibration import Calibration, Cell


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """An undisturbed run of the toy suite, scored."""
    folder = tmp_path_factory.mktemp("reference")
    with Store.writing(folder / "store") as store:
        assert run(toy(folder), store) == 12
        score(store)
    return folder / "store"


def test_outcomes_are_the_solver_s_own(reference, tmp_path):
    suite = toy(tmp_path)
    with Store.reading(reference) as store:
        unit = next(u for u in store.units() if u["solver"] == "ddnm" and u["task"] == "inpaint")
        measurement = load_measurement(store, unit["hash"], unit["measurement"])
        prior = load_spec_prior(suite.prior.name, suite.prior.options)
        content = json.loads(store.content(unit["hash"]))
        result = solve(measurement.problem(prior), solvers.DDNM(n_steps=5), samples=4, items=[content["item"]])
        stored = store.output(unit["hash"])["samples"]
        assert torch.equal(stored, result.samples[0].float().half())
        assert (unit["forwards"], unit["backwards"]) == (5.0, 0.0)
        record = store.outcome(unit["hash"])
        assert min(record["memory"], record["seconds"]) > 0
        known = store.db.execute("SELECT content FROM environments WHERE hash = ?", (unit["environment"],)).fetchone()
        assert json.loads(known["content"])["versions"]["torch"] == importlib.metadata.version("torch")


def test_the_prior_is_loaded_once_for_all_that_one_process_does(tmp_path, monkeypatch):
    loaded, load = [], priors.load
    monkeypatch.setattr("invsolve.priors.load", lambda name, **options: loaded.append(name) or load(name, **options))
    text = TOML.replace("side = 8", "side = 12")  # no other test has it in the cache
    with Store.writing(tmp_path / "store") as store:
        run(toy(tmp_path, text), store, only=["task=superres2"])
    assert len(loaded) == 1


def test_a_run_and_its_scores_leave_the_number_of_threads_as_it_was(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with Store.writing(tmp_path / "store") as store:
            # a prior of its own, because that of three threads stays in the cache, with its own rounding
            run(toy(tmp_path, TOML.replace("side = 8", "side = 10")), store, only=["task=inpaint"])
            assert torch.get_num_threads() == 3
            score(store)
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_an_unknown_precision_of_a_prior_is_one_sentence(tmp_path):
    text = TOML.replace('"invsolve.testing.toy:textures"', '"natural"').replace("{ side = 8 }", '{ dtype = "bf16" }')
    with Store.writing(tmp_path / "store") as store, pytest.raises(InputError, match="unknown precision 'bf16'"):
        run(toy(tmp_path, text), store)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_a_project_around_the_package_is_not_recorded(tmp_path):
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    def recorded() -> str:
        spec = importlib.util.spec_from_file_location("copied", copy)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return json.loads(module.environment())["git"]

    copy = Path(shutil.copy(environment_module.__file__, tmp_path))
    git("init")
    git("commit", "--allow-empty", "-m", "a project")
    assert recorded() == ""
    git("add", ".")
    assert recorded().endswith("+changes")


def test_scores_are_those_of_the_stored_images(reference):
    with Store.reading(reference) as store:
        unit = next(u for u in store.units() if u["solver"] == "ddnm")
        measurement = load_measurement(store, unit["hash"], unit["measurement"])
        images, residual, _ = restored(store, unit["hash"], measurement)
        row = store.db.execute("SELECT * FROM scores WHERE unit = ? AND metric = 'psnr'", (unit["hash"],)).fetchone()
        truth = measurement.truth.clamp(0, 1).double()
        mse = (images.clamp(0, 1).double() - truth).square().flatten(1).mean(1)
        assert row["value"] == pytest.approx((-10 * mse.log10()).mean().item(), abs=1e-6)
        error = (images.mean(0).clamp(0, 1).double() - truth).square().mean()
        assert row["of_mean"] == pytest.approx(-10 * error.log10().item(), abs=1e-5)
        row = store.db.execute(
            "SELECT value FROM scores WHERE unit = ? AND metric = 'misfit'", (unit["hash"],)
        ).fetchone()
        assert row["value"] == pytest.approx(residual.square().mean(1).sqrt().mean().item(), rel=1e-5)


def test_a_calibration_file_scores_the_intervals_of_the_rows_that_it_is_of(reference, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(reference, folder)
    q = {"flat": (0.5, 1.0, 2.0, 3.0)}
    cell = Cell("superres", 2.0, 0.05, 10**9, q, q, q["flat"])
    photographs = {"count": 3, "size": 8, "digest": "ab"}
    table = Calibration("invsolve.testing.toy:textures", "ddnm", {"n_steps": 5}, 4, "mean", photographs, (cell,))
    table = replace(table, antithetic=False)
    other = replace(table, settings={"n_steps": 6})
    wide = replace(cell, average={"flat": (9.0,) * 4}, image={"flat": (9.0,) * 4})
    usual = replace(table, settings={}, cells=(wide,))  # of the solver's own number of steps, which this row has not
    with Store.writing(folder) as store:
        score(store, calibrations=[usual, other, table])
        found = {
            (row["solver"], row["task"], metric): values
            for row in store.units()
            for metric, values in [
                (m, [s["value"] for s in store.query("scores of a unit", row["hash"]) if s["metric"] == m])
                for m in ("interval-coverage", "interval-width", "interval-score")
            ]
        }
        assert found["baseline", "superres2", "interval-coverage"] == [None]
        unit = [u for u in store.units() if (u["solver"], u["task"]) == ("ddnm", "superres2")][-1]
        measurement = load_measurement(store, unit["hash"], unit["measurement"])
        samples = restored(store, unit["hash"], measurement)[0].clamp(0, 1)
        half, truth = 2.0 * pixel_scale(samples), measurement.truth.clamp(0, 1)
        low, high = (samples.mean(0) - half).clamp(0, 1), (samples.mean(0) + half).clamp(0, 1)
        inside = float(((low <= truth) & (truth <= high)).double().mean())
        assert found["ddnm", "superres2", "interval-coverage"] == [pytest.approx(inside)]
        assert found["ddnm", "superres2", "interval-width"] == [pytest.approx(float((high - low).mean()), rel=1e-5)]
        assert found["ddnm", "superres2", "interval-score"][0] >= float((high - low).mean()) - 1e-6
        score(store)  # without the file its scores stay
        assert store.db.execute("SELECT count(*) FROM scores WHERE metric = 'interval-width'").fetchone()[0] == 12
        with pytest.raises(InputError, match="create one for samples with invsolve calibrate --solver"):
            score(store, calibrations=[replace(table, centre="point")])
        with pytest.raises(InputError, match=r"a suite draws independent samples, .* --solver NAME --independent"):
            score(store, calibrations=[replace(table, antithetic=True)])
        content = json.loads(store.content(unit["hash"]))
        assert interval_of_unit(content, measurement, samples, [table]) is not None
        assert interval_of_unit(content, measurement, samples, [replace(table, antithetic=True)]) is None
    assert "interval coverage" in write_report(folder, tmp_path / "page").read_text()


def test_a_second_run_computes_nothing_and_a_third_elsewhere_the_same(reference, tmp_path):
    suite = toy(tmp_path)
    with Store.writing(reference) as store:
        assert run(suite, store) == 0
    with Store.writing(tmp_path / "store") as store:
        assert run(suite, store, only=["solver=ddnm", "task=inp*"]) == 3
        assert sum(unit["status"] is None for unit in store.units()) == 9
        assert run(suite, store) == 9
        score(store)
    assert final_table(tmp_path / "store") == final_table(reference)
    with (
        Store.writing(tmp_path / "store") as store,
        pytest.raises(InputError, match=r"no unit of the suite .* did you mean 'ddnm'"),
    ):
        run(suite, store, only=["solver=ddmn"])
    with Store.writing(tmp_path / "store") as store, pytest.raises(InputError, match="--only takes"):
        run(suite, store, only=["nobody"])


class Interrupted(Exception):
    """Stands for a kill at an exact place."""


@pytest.mark.parametrize("place", ["before the file", "before the row", "after the row"])
def test_a_kill_around_the_commit_loses_and_repeats_nothing(place, reference, tmp_path, monkeypatch):
    suite, completed = toy(tmp_path), []
    write, index = store_module.write_whole, Store._index

    def stop(unit: str) -> None:
        completed.append(unit)
        if len(completed) == 3:
            raise Interrupted

    def writing(path, content, *, replace=True):
        if place == "before the file" and not replace:
            stop(path.stem)
        return write(path, content, replace=replace)

    def indexing(self, unit, record, digest):
        if place == "before the row":
            stop(unit)
        index(self, unit, record, digest)
        if place == "after the row":
            stop(unit)

    with monkeypatch.context() as patched, Store.writing(tmp_path / "store") as store:
        patched.setattr(store_module, "write_whole", writing)
        patched.setattr(Store, "_index", indexing)
        with pytest.raises(Interrupted):
            run(suite, store)
    with Store.writing(tmp_path / "store") as store:
        assert run(suite, store) == (10 if place == "before the file" else 9)
        score(store)
    assert final_table(tmp_path / "store") == final_table(reference)


def test_two_runs_on_one_store_at_once_are_refused(reference, tmp_path):
    with (
        Store.writing(reference),
        pytest.raises(InputError, match=f"another run .process {os.getpid()}"),
        Store.writing(reference),
    ):
        pass
    with Store.writing(reference), Store.reading(reference) as store:  # status beside a run
        assert len(store.units()) == 12


def test_a_store_of_another_suite_is_refused(reference, tmp_path):
    suite = load_suite("quick", [("prior.name", "invsolve.testing.toy:textures")])
    with Store.writing(reference) as store, pytest.raises(InputError, match="holds the suite toy, not quick"):
        run(suite, store)
    with pytest.raises(InputError, match="no results"), Store.reading(tmp_path / "nothing"):
        pass


def test_a_full_disk_stops_the_run_in_one_sentence_and_keeps_what_was_finished(tmp_path, monkeypatch):
    suite, count = toy(tmp_path), 0
    write = store_module.write_whole

    def full(path, content, *, replace=True):
        nonlocal count
        count += not replace
        if count == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content, replace=replace)

    with monkeypatch.context() as patched, Store.writing(tmp_path / "store") as store:
        patched.setattr(store_module, "write_whole", full)
        with pytest.raises(StoreFull, match=r"No space left.*make room and run the same command again"):
            run(suite, store)
    with Store.writing(tmp_path / "store") as store:
        assert sum(unit["status"] == "ok" for unit in store.units()) == 3
        assert run(suite, store) == 9


def test_failures_are_rows_with_their_traceback_never_scored_and_retried_on_demand(tmp_path, monkeypatch):
    real, bad = solvers.DDNM.step, {"kind": "raise"}

    def step(self, problem, state, rng):
        state, info = real(self, problem, state, rng)
        if bad["kind"] == "raise" and state.k == 3:
            raise RuntimeError("a bug of the solver")
        if bad["kind"] == "nan" and state.k == 3:
            state = type(state)(state.x * float("nan"), state.k, state.theta, state.memory)
        return state, info

    suite = toy(tmp_path)
    monkeypatch.setattr(solvers.DDNM, "step", step)
    with Store.writing(tmp_path / "store") as store:
        run(suite, store, only=["item=draw 1", "solver=baseline"])
        run(suite, store, only=["item=draw 1"])
        bad["kind"] = "nan"
        run(suite, store, only=["item=draw 2"])
        bad["kind"] = ""
        run(suite, store)
        score(store)
        rows = {(u["item"], u["solver"]): u for u in store.units() if u["task"] == "inpaint"}
        assert {key: u["status"] for key, u in rows.items() if u["status"] != "ok"} == {
            ("draw 1", "ddnm"): "failed",
            ("draw 2", "ddnm"): "failed",
        }
        assert rows["draw 1", "ddnm"]["error"] == "RuntimeError: a bug of the solver"
        assert "in step" in store.outcome(rows["draw 1", "ddnm"]["hash"])["traceback"]
        assert "non-finite" in rows["draw 2", "ddnm"]["error"]
        scored = {row[0] for row in store.db.execute("SELECT unit FROM scores")}
        assert rows["draw 1", "ddnm"]["hash"] not in scored
        table = next(t for t in tables(store) if t.task == "inpaint")
        ddnm = next(row for row in table.rows if row.solver == "ddnm")
        assert (ddnm.rank, ddnm.cells, ddnm.counts) == (0, {}, {"ok": 1, "failed": 2})
        assert ddnm.note.startswith("incomplete: 1 of 3 (2 failed)")
        assert run(suite, store) == 0  # failures stay until they are asked for
        assert run(suite, store, retry=True) == 4
        assert all(u["status"] == "ok" for u in store.units())
        assert store.db.execute("SELECT count(*) FROM earlier").fetchone()[0] == 4


def test_what_a_method_cannot_do_is_said_and_does_not_count_as_a_failure(tmp_path):
    text = TOML.replace(
        'name = "ddnm"\npreset = "default"\nsettings = { n_steps = 5 }', 'name = "ddrm"\npreset = "default"'
    )
    text = text.replace('kind = "superres"\nfactor = 2', 'kind = "deblur"\nstd = 0.7').replace("side = 8", "side = 16")
    with Store.writing(tmp_path / "store") as store:
        run(toy(tmp_path, text), store, only=["item=draw 0"])
        unit = next(u for u in store.units() if u["solver"] == "ddrm" and u["task"] == "superres2")
        assert unit["status"] == "unable"
        assert "singular value decomposition" in unit["error"]


def test_images_and_priors_that_are_not_there(tmp_path):
    from invsolve.io import Image, write_image

    suite = toy(tmp_path)
    missing = load_suite(tmp_path / "toy.toml", [("prior.name", "invsolve.testing.toy:missing")])
    with Store.writing(tmp_path / "a") as store, pytest.raises(InputError, match="missing"):
        run(missing, store)
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "good.png", Image(Rng(0).uniform(torch.empty(1, 3, 8, 8))[0]))
    (tmp_path / "images" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n not an image")
    changes = [("data.kind", "folder"), ("data.path", str(tmp_path / "images")), ("data.items", 0)]
    suite = load_suite(tmp_path / "toy.toml", changes)
    with Store.writing(tmp_path / "b") as store:
        assert run(suite, store) == 8
        status = {(u["item"], u["status"]) for u in store.units()}
        assert status == {("good", "ok"), ("bad", "failed")}
        assert "bad.png" in next(u["error"] for u in store.units() if u["item"] == "bad")


def test_a_unit_over_its_budget_of_seconds_fails(tmp_path):
    with Store.writing(tmp_path / "store") as store:
        run(toy(tmp_path, TOML.replace("samples = 4", "seconds = 1e-6")), store, only=["solver=ddnm", "item=draw 0"])
        assert "over its limit of 1e-06 seconds" in store.units()[1]["error"]
        run(toy(tmp_path, TOML.replace("samples = 4", "seconds = 1e-6")), store, only=["solver=baseline"])
        assert store.units()[0]["status"] == "failed"  # what cannot be stopped on the way
        assert store.output(store.units()[0]["hash"]) == {}


def test_peers_are_rows(tmp_path):
    row = '\n[[solvers]]\nname = "theirs"\npeer = "deepinv DiffPIR"\nsamples = 1\n'
    with Store.writing(tmp_path / "store") as store:
        run(toy(tmp_path, TOML + row), store, only=["solver=theirs", "item=draw 0"])
        unit = next(u for u in store.units() if u["solver"] == "theirs")
        assert (unit["status"], unit["forwards"]) == ("ok", 100.0)


def test_killed_workers_are_replaced_and_the_table_is_the_same(reference, tmp_path, caplog):
    suite, workers = toy(tmp_path), Workers(execute, 2)
    first, second = workers.pids()
    os.kill(first, signal.SIGKILL)  # dies before, or over, its first unit
    kill = lambda progress: progress.done == 3 and os.kill(second, signal.SIGKILL)  # noqa: E731
    with Store.writing(tmp_path / "store") as store:
        assert run(suite, store, workers, report=kill) == 12
        score(store)
    assert final_table(tmp_path / "store") == final_table(reference)
    assert "killed by SIGKILL" in caplog.text


class Mortal(Here):
    """An executor all of whose workers die over one unit."""

    def wait(self):
        events = super().wait()
        if events[0].job.hash == self.victim:
            return [Event(events[0].job, None, "killed by SIGKILL")]
        return events

    victim = ""


def test_a_unit_that_kills_every_worker_is_a_failure_in_the_end(reference, tmp_path):
    executor = Mortal(execute)
    with Store.reading(reference) as store:
        executor.victim = store.units()[3]["hash"]
    with Store.writing(tmp_path / "store") as store:
        assert run(toy(tmp_path), store, executor) == 12
        assert store.outcome(executor.victim)["error"].startswith("3 workers died while they ran it")


class Hopeless(Here):
    """An executor all of whose workers die."""

    def wait(self):
        return [Event(event.job, None, "killed by SIGKILL") for event in super().wait()]


def test_a_run_whose_workers_all_die_stops_and_keeps_the_other_units(tmp_path):
    with Store.writing(tmp_path / "store") as store:
        with pytest.raises(InvsolveError, match="12 workers died before any had finished anything"):
            run(toy(tmp_path), store, Hopeless(execute))
        assert [unit["status"] for unit in store.units()].count(None) == 9  # three units had three deaths each


def test_status_and_tables_of_many_units_are_quick(tmp_path):
    simulated(tmp_path / "store", items=250, solvers=8, tasks=5)
    began = time.process_time()
    with Store.reading(tmp_path / "store") as store:
        found = tables(store)
    assert time.process_time() - began < 3  # 10 000 units; 100 000 in the slow test
    assert [row.rank for row in found[0].rows] == list(range(1, 9))
    assert [row.solver for row in found[0].rows[:2]] == ["solver0", "solver1"]
    assert found[0].rows[1].p < 1e-3


def test_a_function_of_the_user_s_is_a_column(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    code = tmp_path / "worst_of.py"
    code.write_text("def worst_pixel(case):\n    return float((case.image - case.truth).abs().max())\n")
    name = "worst_of:worst_pixel:low"
    text = TOML.replace('"psnr", ', f'"{name}", ')
    with pytest.raises(InputError, match="names worst_of:worst_pixel:low, code that would run"):
        toy(tmp_path, text)
    with pytest.raises(InputError, match="module:function:high or module:function:low"):
        toy(tmp_path, text.replace(":low", ":lower").replace("worst_of", "invsolve.io"))
    suite = load_suite(write_suite(tmp_path, text), trust=True)
    with Store.writing(tmp_path / "store") as store:
        run(suite, store, only=["task=superres2", "item=draw 0"])
        with pytest.raises(InputError, match="code that would run"):
            score(store)
        score(store, trust=True)
        unit = next(u for u in store.units() if u["solver"] == "ddnm" and u["status"] == "ok")
        values = {row["unit"]: row["value"] for row in store.query("scores") if row["metric"] == name}
        measurement = load_measurement(store, unit["hash"], unit["measurement"])
        images, _, _ = restored(store, unit["hash"], measurement)
        worst = (images.clamp(0, 1) - measurement.truth.clamp(0, 1)).abs().amax((1, 2, 3)).mean()
        assert values[unit["hash"]] == pytest.approx(float(worst), abs=1e-6)
        assert tables(store)[0].metrics[0] == name
        code.write_text("def worst_pixel(case):\n    return 7.0\n")
        sys.modules.pop("worst_of")
        importlib.invalidate_caches()
        score(store, trust=True)
        assert {row["value"] for row in store.query("scores") if row["metric"] == name} == {7.0}


OWN_CODE = """
from dataclasses import dataclass
from invsolve.operators import Denoising
from invsolve.solvers import DDNM

SHARE = 1.0

@dataclass(frozen=True)
class Solver(DDNM):
    name = "mine"
    def step(self, problem, state, rng):
        state, info = super().step(problem, state, rng)
        return type(state)(SHARE * state.x, state.k, state.theta, state.memory), info

class Operator(Denoising):
    def forward(self, x, theta={}):
        return SHARE * super().forward(x, theta)
"""


@pytest.mark.parametrize(
    ("old", "new", "again"),
    [
        ('name = "ddnm"', 'name = "ddnm"\nsolver = "own_code:Solver"', 2),
        ('kind = "superres"\nfactor = 2', 'kind = "operator"\noperator = "own_code:Operator"', 2),
    ],
)
def test_an_edit_of_the_user_s_code_is_noticed(old, new, again, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    path = write_suite(tmp_path, TOML.replace(old, new).replace("items = 3", "items = 1"))
    for text, count in ((OWN_CODE, 4), (OWN_CODE, 0), (OWN_CODE.replace("SHARE = 1.0", "SHARE = 0.9"), again)):
        monkeypatch.delitem(sys.modules, "own_code", raising=False)
        (tmp_path / "own_code.py").write_text(text)
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        with Store.writing(tmp_path / "store") as store:
            assert run(load_suite(path, trust=True), store) == count


def test_another_checkpoint_of_a_peer_is_noticed(tmp_path):
    from invsolve.bench.peers import weights_of_peer

    digests = []
    for content in (b"one", b"two"):
        (tmp_path / "net.pth").write_bytes(content)
        digests.append(weights_of_peer(f"spandrel:{tmp_path / 'net.pth'}"))
    assert digests[0] != digests[1]
    assert weights_of_peer("deepinv DPS") is weights_of_peer(f"spandrel:{tmp_path / 'none.pth'}") is None


def test_a_disk_that_is_full_of_measurements_stops_the_run(tmp_path, monkeypatch):
    put = Store.put_measurement

    def full(self, name, content):
        if self.db.execute("SELECT count(*) FROM outcomes").fetchone()[0] >= 2:
            raise StoreFull("No space left")
        put(self, name, content)

    with Store.writing(tmp_path / "store") as store, monkeypatch.context() as patched:
        patched.setattr(Store, "put_measurement", full)
        with pytest.raises(StoreFull):
            run(toy(tmp_path), store)
        assert {unit["status"] for unit in store.units()} == {"ok", None}


def test_what_an_operator_or_a_metric_of_the_user_s_raises_stops_nothing_else(tmp_path, monkeypatch, caplog):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "raises.py").write_text(
        "from invsolve.operators import Denoising\n"
        "class Op(Denoising):\n    def forward(self, x, theta={}):\n        raise KeyError('mine')\n"
        "def metric(case):\n    raise ValueError('too small')\n"
    )
    text = TOML.replace('kind = "superres"\nfactor = 2', 'kind = "operator"\noperator = "raises:Op"')
    text = text.replace('"misfit", ', '"misfit", "raises:metric:low", ')
    with Store.writing(tmp_path / "store") as store:
        assert run(load_suite(write_suite(tmp_path, text), trust=True), store, only=["item=draw 0"]) == 4
        rows = {unit["task"]: unit for unit in store.units() if unit["status"]}
        assert (rows["superres2"]["status"], rows["inpaint"]["status"]) == ("failed", "ok")
        assert "KeyError" in rows["superres2"]["error"]
        score(store, trust=True)
        values = {
            row["metric"]: row["value"] for row in store.query("scores") if row["unit"] == rows["inpaint"]["hash"]
        }
        assert values["raises:metric:low"] is None
        assert values["psnr"] > 0
        assert "too small" in caplog.text


def test_a_score_of_a_set_of_other_units_is_not_shown(tmp_path):
    from invsolve.bench.unit import set_mark

    with Store.writing(tmp_path / "store") as store:
        run(toy(tmp_path, TOML.replace('"crps"]', '"crps", "kid"]')), store)
        hashes = [u["hash"] for u in store.units() if (u["task"], u["solver"]) == ("inpaint", "ddnm")]

        def shown() -> list[float]:
            rows = next(t for t in tables(store) if t.task == "inpaint").rows
            return [row.cells["kid"].value for row in rows if "kid" in row.cells]

        store.note("set_scores", ("inpaint", "ddnm", "kid", "x", 0.5, 3, set_mark(hashes)))
        assert shown() == [0.5]
        store.note("set_scores", ("inpaint", "ddnm", "kid", "x", 0.5, 3, set_mark(hashes[:2])))
        assert shown() == []


def test_a_prior_on_the_cpu_has_its_memory_there_whatever_else_the_machine_has(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    assert peak_on("cpu") > 2**20
    assert peak_on("cuda") == 7


def test_a_baseline_without_numbers_has_failed(tmp_path, monkeypatch):
    from invsolve.bench.tasks import Measurement

    monkeypatch.setattr(Measurement, "baseline", lambda self: torch.full_like(self.truth, torch.nan))
    with Store.writing(tmp_path / "store") as store:
        run(toy(tmp_path), store, only=["item=draw 0", "solver=baseline"])
        rows = [unit for unit in store.units() if unit["status"]]
        assert {(unit["status"], unit["error"]) for unit in rows} == {("failed", "values are not finite")}


def test_a_ray_cluster_without_a_gpu_is_said_at_once(monkeypatch):
    from types import SimpleNamespace

    from invsolve.execution.ray import RayExecutor

    ended = []
    ray = SimpleNamespace(
        init=lambda **options: None, cluster_resources=lambda: {"CPU": 8.0}, shutdown=lambda: ended.append(True)
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(InputError, match="no GPU: omit --devices"):
        RayExecutor(execute, "auto", 2, 1, 1.0)
    assert ended == [True]
