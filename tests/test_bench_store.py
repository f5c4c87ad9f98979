"""Stores that somebody or something has been at: nothing lost, nothing silently different, nothing foreign trusted."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import sys
import zipfile
from pathlib import Path

import pytest
from benchtoy import TOML, final_table, toy, write_suite

from benchmarks.reliability.bundles import FORGED, forged
from benchmarks.reliability.stores import DAMAGE, flipped, flipped_behind_its_back, stored
from invsolve import InputError
from invsolve.bench import index as index_module
from invsolve.bench import outcomes
from invsolve.bench.bundle import export, submit
from invsolve.bench.checking import CANNOT_SHOW, check_bundle
from invsolve.bench.reading import load_suite
from invsolve.bench.report import write_report
from invsolve.bench.runner import run
from invsolve.bench.scoring import score
from invsolve.bench.store import Store
from invsolve.bench.table import tables
from invsolve.bench.text import latex, markdown, status_text
from invsolve.commands.cli import main


def finish(folder: Path, suite) -> int:
    with Store.writing(folder) as store:
        count = run(suite, store)
        score(store)
    return count


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert finish(folder / "store", toy(folder)) == 12
    return folder / "store"


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    shutil.copytree(whole, tmp_path / "store")
    return tmp_path / "store"


TWINS = """
[[tasks]]
name = "again"
kind = "inpaint"
missing = 0.5
noise = 0.05
[[solvers]]
name = "mine"
solver = "ddnm"
preset = "default"
settings = { n_steps = 5 }
"""


def test_rows_and_tasks_of_equal_content_keep_their_names_and_run_once(tmp_path):
    suite = toy(tmp_path, TOML + TWINS)
    assert finish(tmp_path / "store", suite) == 12  # of 3 images x 3 tasks x 3 rows, the others share their outcomes
    with Store.reading(tmp_path / "store") as store:
        units = store.units()
        found = {table.task: {row.solver: row for row in table.rows} for table in tables(store)}
        words = status_text(store)
        assert len({unit["hash"] for unit in units}) == 12
    assert len(units) == 27
    assert "27 ok" in words
    assert set(found) == {"superres2", "inpaint", "again"}
    for rows in found.values():
        assert set(rows) == {"baseline", "ddnm", "mine"}
        assert rows["mine"].cells["psnr"].value == rows["ddnm"].cells["psnr"].value
        assert all(row.total == 3 and row.complete for row in rows.values())
    assert found["again"]["ddnm"].cells["psnr"] == found["inpaint"]["ddnm"].cells["psnr"]
    page = write_report(tmp_path / "store").read_text()
    assert page.count("<summary>mine") == 3
    assert finish(tmp_path / "store", suite) == 0


def test_two_images_of_one_content_are_two_rows(tmp_path):
    from invsolve.bench.data import packaged

    for name in ("a.png", "b.png"):
        shutil.copy(packaged()[0], tmp_path / name)
    text = TOML.replace('kind = "draws"\nitems = 3', f'kind = "folder"\npath = "{tmp_path}"\nsize = 16')
    text = text.replace('name = "invsolve.testing.toy:textures"\noptions = { side = 8 }', 'name = "natural"')
    text = text.split('[[solvers]]\nname = "ddnm"')[0]
    assert finish(tmp_path / "store", toy(tmp_path, text)) == 2
    with Store.reading(tmp_path / "store") as store:
        assert sorted({unit["item"] for unit in store.units() if unit["status"] == "ok"}) == ["a", "b"]


def test_equal_seeds_are_refused(tmp_path):
    with pytest.raises(InputError, match="two seeds of the suite are named 1"):
        toy(tmp_path, TOML.replace("samples = 4", "samples = 4\nseeds = [1, 1]"))


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("indexed", [True, False])
def test_a_damaged_outcome_is_named_set_aside_and_run_again(what, indexed, folder, whole, tmp_path, caplog):
    path = stored(folder)[4]
    if not indexed:
        (folder / "results.db").unlink()
    DAMAGE[what](path)
    lost = what == "gone" and not indexed
    undetected = what == "a flipped bit" and not indexed  # nothing but the index knows what it was
    count = finish(folder, toy(tmp_path))
    assert count == (0 if undetected else 1)
    assert ("set aside and runs again" in caplog.text) is not (lost or undetected)
    if not undetected:
        assert final_table(folder) == final_table(whole)
    assert len(stored(folder)) == 12


def test_damage_that_leaves_size_and_time_is_found_where_it_is_read(folder, whole, tmp_path, caplog):
    paths = stored(folder)
    with Store.writing(folder) as store:
        store.db.execute("DELETE FROM scores")
    for path in paths[:3]:
        flipped_behind_its_back(path)
    with Store.writing(folder) as store:
        score(store)
    assert caplog.text.count("set aside and runs again") == 3
    with Store.reading(folder) as store:
        assert "3 missing, 9 ok" in status_text(store)
    assert finish(folder, toy(tmp_path)) == 3
    assert final_table(folder) == final_table(whole)


def test_a_damaged_outcome_is_not_shown_as_if_nothing_were(folder, caplog):
    for path in stored(folder):
        flipped_behind_its_back(path)
    page = write_report(folder).read_text()
    assert page.count('"status":"damaged"') == 12
    assert "is not shown" in caplog.text


@pytest.mark.parametrize("what", ["truncated", "empty", "a flipped bit", "text", "gone", "a folder"])
def test_a_damaged_measurement_is_drawn_again(what, folder, whole, tmp_path):
    path = stored(folder, "measurements")[1]
    before = path.read_bytes()
    DAMAGE[what](path)
    with Store.writing(folder) as store:
        store.db.execute("DELETE FROM scores")
    assert finish(folder, toy(tmp_path)) == 0
    assert path.read_bytes() == before
    assert final_table(folder) == final_table(whole)


def test_a_measurement_that_is_drawn_otherwise_takes_its_outcomes_with_it(folder, tmp_path, caplog):
    path = stored(folder, "measurements")[1]
    with Store.writing(folder) as store:
        store.db.execute("UPDATE measurements SET digest = 'of another machine' WHERE hash = ?", (path.stem,))
    path.unlink()
    assert finish(folder, toy(tmp_path)) == 2
    assert caplog.text.count("its measurement is now drawn in another way") == 2


def test_files_of_others_are_left_alone(folder, whole, tmp_path):
    strange = [
        ".DS_Store", "README.md", "outputs/.DS_Store", "outputs/README", "measurements/Thumbs.db", "aside.txt",
        f"{stored(folder)[0].parent.relative_to(folder)}/.DS_Store", "outputs/zz/file.safetensors",
        f"{stored(folder)[0].parent.relative_to(folder)}/copy of it.safetensors", "outputs/ab/notes/deep.txt",
    ]  # fmt: skip
    for name in strange:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    assert finish(folder, toy(tmp_path)) == 0
    write_report(folder)
    assert final_table(folder) == final_table(whole)
    assert all((folder / name).read_text() == "mine" for name in strange)


def test_an_index_that_cannot_be_read_is_made_again_from_the_outcomes(folder, whole, tmp_path):
    (folder / "results.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(InputError, match=r"move it away, and .* makes it from the outcomes"):
        finish(folder, toy(tmp_path))
    for path in folder.glob("results.db*"):
        path.unlink()
    assert finish(folder, toy(tmp_path)) == 0
    assert final_table(folder) == final_table(whole)


def test_a_store_of_another_version_is_told(folder):
    with Store.writing(folder) as store:
        store.db.execute("PRAGMA user_version = 1")
    for opened in (Store.reading, Store.writing):
        with pytest.raises(InputError, match="another version of invsolve"), opened(folder):
            pass


def test_a_store_is_read_where_nothing_can_be_written(folder, tmp_path, monkeypatch):
    """Root may write anywhere, so SQLite is told that it may not: its log can then be neither read nor made."""
    connect = index_module._connection

    class Refused:
        def execute(self, *words):
            raise sqlite3.OperationalError("unable to open database file")

        def close(self):
            pass

    monkeypatch.setattr(index_module, "_connection", lambda name: Refused() if "mode=ro" in name else connect(name))
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}
    with Store.reading(folder) as store:
        assert "12 ok" in status_text(store)
    write_report(folder, tmp_path / "page")
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")} == before


def test_what_only_reads_a_store_changes_nothing_in_it(folder, tmp_path):
    for place in (folder, *folder.rglob("*")):
        place.chmod(place.stat().st_mode & 0o555)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*") if "results.db-" not in p.name}
    with Store.reading(folder) as store:
        assert "12 ok" in status_text(store)
    write_report(folder, tmp_path / "page")
    assert export(folder, tmp_path / "rows.csv") == 12
    submit(folder, tmp_path / "bundle.zip")
    after = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*") if "results.db-" not in p.name}
    assert after == before
    for place in (folder, *folder.rglob("*")):
        place.chmod(place.stat().st_mode | 0o700)


@pytest.mark.parametrize("name", ["writer", "suite.toml", "report/index.html", "report/tables.md", "lock"])
def test_a_link_that_was_planted_in_a_store_is_not_written_through(name, folder, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(victim)
    try:
        finish(folder, toy(tmp_path))
        write_report(folder)
    except InputError:
        assert name == "lock"
    assert victim.read_text() == "precious"


SUITE_CODE = """
from pathlib import Path
Path("ran").touch()
from invsolve.testing.toy import textures
from invsolve.solvers import DDNM
from invsolve.operators import Denoising
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("invsolve.testing.toy:textures", "suite_code:textures"),
        ('name = "ddnm"', 'name = "ddnm"\nsolver = "suite_code:DDNM"'),
        ('name = "ddnm"', 'name = "suite_code:DDNM"'),
        ('kind = "superres"\nfactor = 2', 'kind = "operator"\noperator = "suite_code:Denoising"'),
    ],
)
def test_a_suite_runs_code_of_its_own_only_when_it_is_trusted(old, new, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "suite_code", raising=False)
    (tmp_path / "suite_code.py").write_text(SUITE_CODE)
    write_suite(tmp_path, TOML.replace(old, new))
    words = ["bench", "run", "toy.toml", "--store", "s", "--workers", "1", "--items", "1"]
    assert main(words) == 2
    assert "names suite_code:" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    monkeypatch.setenv("INVSOLVE_TRUSTED", "others, suite_code")
    load_suite("toy.toml")
    monkeypatch.delenv("INVSOLVE_TRUSTED")
    assert main([*words, "--trust"]) == 0
    assert (tmp_path / "ran").exists()
    monkeypatch.delitem(sys.modules, "suite_code", raising=False)
    (tmp_path / "ran").unlink()
    again = [["bench", "score", "--store", "s", "--metrics", "ssim"], ["bench", "report", "--store", "s"]]
    for action in again:
        assert main(action) == (2 if "Denoising" in new else 0)
    assert not (tmp_path / "ran").exists()
    for action in again:
        assert main([*action, "--trust"]) == 0
    assert "runs code of its own: <" not in (tmp_path / "s" / "report" / "index.html").read_text()
    assert "suite_code:" in (tmp_path / "s" / "report" / "index.html").read_text()


NASTY = [
    "=HYPERLINK(\"http://x\")", "+1", "-1", "@SUM(A1)", "</script><script>alert(1)</script>", "<!--<script>",
    "<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "![i](http://x/y.png)", "a|b", "`code`", "\\input{x}",
    "$x^2$", "100%", "# head", "*bold*", "\"quoted\" & 'single'", "{{ 7 * 7 }}", "😀 日本語", "a\u202eb", "\x1b[31mred",
    "two\nlines", "x" * 3000, "../../evil", "\x7f",
]  # fmt: skip


def test_names_break_no_page_no_table_and_no_terminal(tmp_path, capsys):
    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f").replace("\u202e", "\\u202E")

    rows = "".join(f"[[solvers]]\nname = {quoted(name)}\nbaseline = true\n" for name in NASTY)
    text = TOML.split("[[solvers]]")[0].replace('name = "inpaint"', f"name = {quoted(NASTY[4] + NASTY[11])}")
    path = tmp_path / "=<i>&toy.toml"
    path.write_text(text.replace('title = "toy"', f"title = {quoted(NASTY[4])}") + rows)
    store = tmp_path / "store"
    assert main(["bench", "run", str(path), "--store", str(store), "--workers", "1"]) == 0
    assert main(["bench", "report", str(path), "--store", str(store)]) == 0
    assert main(["bench", "export", str(path), "--store", str(store), "-o", str(tmp_path / "rows.csv")]) == 0
    assert main(["bench", "submit", str(path), "--store", str(store), "-o", str(tmp_path / "b.zip")]) == 0
    assert main(["bench", "check", str(tmp_path / "b.zip")]) == 0
    out, err = capsys.readouterr()
    assert all(c.isprintable() or c in "\n\t" for c in out + err)
    page = (store / "report" / "index.html").read_text()
    assert page.lower().count("<script") == 2
    assert page.lower().count("</script") == 2
    assert "<img" not in page
    assert "<!--" not in page
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert set(next(iter(data.values()))[0]["results"]) == set(NASTY)
    with (tmp_path / "rows.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert {row["solver"].removeprefix("'") for row in found} == set(NASTY)
    assert not [row for row in found for cell in row.values() if cell[:1] in tuple("=+-@\t\r")]
    with Store.reading(store) as opened:
        made = tables(opened)
    lines = markdown(made).splitlines()
    assert {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")} == {lines[2].count("|")}
    assert not [line for line in lines if "<" in line.replace("&lt;", "") or "](" in line.replace("\\](", "")]
    tex = latex(made)
    assert "\\input" not in tex
    assert all(c.isprintable() or c == "\n" for c in tex)
    assert sorted(p.name for p in (store / "report").iterdir() if p.suffix == ".toml") == ["__i__toy.toml"]
    assert load_suite(store / "report" / "__i__toy.toml").solvers == load_suite(path).solvers


@pytest.fixture(scope="module")
def bundle(whole, tmp_path_factory) -> Path:
    return submit(whole, tmp_path_factory.mktemp("bundle") / "bundle.zip")


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_bundle_whose_manifest_fits_is_found_out(what, bundle, tmp_path):
    path = forged(bundle, tmp_path / "forged.zip", FORGED[what])
    try:
        assert check_bundle(path)
    except InputError:
        assert what in ("no suite",)


def test_what_a_bundle_cannot_show_is_said_and_the_store_shows_some_of_it(bundle, folder, capsys):
    assert check_bundle(bundle) == []
    assert main(["bench", "check", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert all(sentence in out for sentence in CANNOT_SHOW)
    assert main(["bench", "check", str(bundle), "--store", str(folder)]) == 0
    assert CANNOT_SHOW[0] not in capsys.readouterr().out
    flipped(stored(folder)[3])
    assert main(["bench", "check", str(bundle), "--store", str(folder)]) == 1
    assert "SHA-256 differs" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["text", "truncated", "a bomb", "another file", "a file less", "a pipe"])
def test_what_is_no_bundle_is_one_sentence(what, bundle, tmp_path):
    path = tmp_path / "bundle.zip"
    shutil.copy(bundle, path)
    if what == "text":
        path.write_text("hello")
    if what == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    if what == "a pipe":
        path.unlink()
        os.mkfifo(path)
    if what in ("a bomb", "another file", "a file less"):
        with zipfile.ZipFile(bundle) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        if what == "a bomb":
            files["rows.csv"] = bytes(300 << 20)
        elif what == "another file":
            files["../evil"] = b""
        else:
            del files["tables.md"]
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    with pytest.raises(InputError):
        check_bundle(path)


def test_a_damaged_output_is_not_handed_in(folder, tmp_path):
    flipped_behind_its_back(stored(folder)[0])
    with pytest.raises(outcomes.Damaged, match="SHA-256 differs"):
        submit(folder, tmp_path / "b.zip")
    assert export(folder, tmp_path / "rows.csv") == 12


def test_a_bundle_with_optional_tasks_and_of_fewer_images_than_before_fits(tmp_path):
    text = TOML.replace('kind = "inpaint"', 'kind = "inpaint"\noptional = true')
    with Store.writing(tmp_path / "store") as store:
        run(toy(tmp_path, text), store)
        score(store)
        score(store, ["ssim"])  # of images that are no longer part of the suite
        run(toy(tmp_path, text.replace("items = 3", "items = 2")), store)
        store.db.execute("DELETE FROM scores WHERE metric = 'ssim' AND unit IN (SELECT hash FROM units)")
    assert check_bundle(submit(tmp_path / "store", tmp_path / "bundle.zip")) == []


def test_settings_that_depend_on_files_elsewhere_are_not_compared():
    from invsolve.bench.checking import _lacks_files

    rows = [{"name": "ddnm"}]
    assert not _lacks_files({"solvers": rows})
    assert _lacks_files({"prior": {"name": "mine.pt"}, "solvers": rows})
    assert _lacks_files({"solvers": [{"name": "ddnm", "preset": "file:mine.toml"}]})
    assert _lacks_files({"solvers": [{"name": "ddnm", "preset": "restore:mine.pt"}]})


def test_only_scores_that_are_not_there_lack_their_weights():
    import math

    from invsolve.bench.table import Cell, Row
    from invsolve.bench.text import lacks

    row = Row("a", "solver", 1, "", {}, cells={"lpips": Cell(0.3), "dists": Cell(math.nan)})
    missing = {"lpips", "dists", "fid"}
    assert [name for name in ("lpips", "dists", "fid", "psnr") if lacks(missing, row, name)] == ["dists", "fid"]
