"""Many images: every image once, whatever is broken, killed or run again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as pillow

import invsolve as iv
from invsolve import InputError, InvsolveError
from invsolve.commands.cli import main
from invsolve.commands.progress import Shown
from invsolve.execution import threads
from invsolve.execution.executor import Here, outcomes
from invsolve.execution.workers import Workers
from invsolve.io import read_image
from invsolve.restoration import items as batch_items
from invsolve.restoration import loading
from invsolve.restoration.batch import restore_item
from invsolve.restoration.options import Options
from invsolve.restoration.sources import Entry, entries, find, output_path

WEIGHTS = Path(iv.__file__).parent / "priors" / "weights"
QUICK = {"task": "denoise", "noise": 0.05, "quality": "fast", "precision": "float32"}
SAMPLED = ["--task", "denoise", "--noise", "0.05", "--precision", "float32"]
WORDS = [*SAMPLED, "--quality", "fast"]


def images(folder: Path, names: list[str], side: int = 24) -> Path:
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(i).integers(0, 256, (side, side + 8 * (i % 3), 3), dtype=np.uint8)
        pillow.fromarray(values).save(path)
    return folder


def broken(folder: Path, name: str = "broken.png") -> None:
    (folder / name).write_bytes(b"\x89PNG\r\n\x1a\nnonsense")


def restored(folder: Path) -> dict[str, str]:
    """The hash of every restoration below a folder, by its name in there."""
    paths = [p for p in folder.rglob("*-restored.*") if p.suffix != ".json"]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def test_words_name_files_folders_patterns_and_lists(tmp_path, monkeypatch):
    images(tmp_path, ["a.png", "sub/b.jpg", "sub/c.PNG", ".hidden.png"])
    (tmp_path / "clip.mp4").write_bytes(b"no image")
    (tmp_path / "list.txt").write_text("a.png\n\nsub/b.jpg\n")
    monkeypatch.chdir(tmp_path)

    def names(*words: str, recursive: bool = False) -> list[str]:
        return [entry.name for entry in find(words, recursive=recursive).entries]

    assert names(".") == ["a.png"]
    assert names(".", recursive=True) == ["a.png", "sub/b.jpg", "sub/c.PNG"]
    assert names("sub/*.jpg", "a.png", "./a.png") == ["b.jpg", "a.png"]
    assert names("@list.txt") == ["a.png", "b.jpg"]
    assert names("https://example.org/x/photo%20one.png?size=2") == ["photo one.png"]
    assert find(["."]).others == ("clip.mp4", "list.txt")
    for word, message in (("nothing.png", "there is no file"), ("*.webp", "no file matches")):
        with pytest.raises(InputError, match=message):
            find([word])


def test_images_of_one_name_are_told_apart_by_their_endings(tmp_path):
    images(tmp_path, ["grey.jpg", "grey.png", "other.png", "sub/grey.png"])
    chosen = entries(find([tmp_path], recursive=True))
    names = {str(output_path(entry, Path("out"))) for entry in chosen}
    assert names == {
        "out/grey-jpg-restored.jpg", "out/grey-png-restored.png", "out/other-restored.png", "out/sub/grey-restored.png"
    }  # fmt: skip


def test_a_template_names_files_and_nothing_else():
    entry = Entry("in/a.heic", Path("sub"), "a", ".heic")  # pyright: ignore[reportArgumentType]
    assert output_path(entry, Path("out"), "{stem}_new{ext}") == Path("out/sub/a_new.png")
    assert output_path(entry, None, "{name}", ".jpg") == Path("in/a.jpg")
    for wrong in ("{stem", "{size}", "../{stem}.png", "{}", "{stem.__class__}", ""):
        with pytest.raises(InputError, match="template"):
            output_path(entry, Path("out"), wrong)


def test_shards_are_a_partition(tmp_path):
    found = find([images(tmp_path, [f"{i}.png" for i in range(30)], side=8)])
    parts = [entries(found, (i, 4)) for i in range(1, 5)]
    assert sorted(entry.name for part in parts for entry in part) == sorted(entry.name for entry in found.entries)
    assert all(parts)


def test_a_broken_image_is_a_record_and_a_line_never_the_end(tmp_path, capsys):
    images(tmp_path / "in", ["a.png", "c.png", "sub/d.jpg"])
    broken(tmp_path / "in", "b.png")
    (tmp_path / "in" / "clip.mp4").write_bytes(b"no image")
    code = main(["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--recursive", *WORDS])
    told = capsys.readouterr()
    assert code == 1
    assert set(restored(tmp_path / "out")) == {"a-restored.png", "c-restored.png", "sub/d-restored.jpg"}
    assert "3 restored, 1 failed" in told.err
    assert "clip.mp4" in told.err
    assert told.err.count("b.png is damaged") == 1
    record = json.loads((tmp_path / "out" / "b-restored.json").read_text())
    assert record["status"] == ["failed"]
    assert "damaged" in record["error"]


def test_a_second_run_does_nothing_again_and_retries_what_failed(tmp_path, capsys):
    images(tmp_path / "in", ["a.png", "b.png"])
    broken(tmp_path / "in", "c.png")
    words = ["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--json", "--skip-existing", *WORDS]

    def run() -> dict[str, str]:
        main(words)
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return {Path(line["source"]).name: line["status"] for line in lines}

    assert run() == {"a.png": "restored", "b.png": "restored", "c.png": "failed"}
    before = (tmp_path / "out" / "a-restored.png").stat().st_mtime_ns
    (tmp_path / "out" / "b-restored.json").unlink()  # as a run leaves it that was killed between the two files
    images(tmp_path / "in", ["c.png"])
    assert run() == {"a.png": "skipped", "b.png": "restored", "c.png": "restored"}
    assert (tmp_path / "out" / "a-restored.png").stat().st_mtime_ns == before


def test_files_that_exist_stop_a_batch_before_it_begins(tmp_path, capsys):
    images(tmp_path / "in", ["a.png", "b.png"])
    words = ["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *WORDS]
    assert main(words) == 0
    assert main(words) == 2
    assert "already exists" in capsys.readouterr().err
    assert main([*words, "--overwrite", "-q"]) == 0
    assert capsys.readouterr().out == ""


def test_an_image_that_is_to_be_restored_is_never_overwritten_unasked(tmp_path, capsys):
    images(tmp_path / "in", ["a.png", "b.png"])
    before = {path: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    a, b = (str(tmp_path / "in" / name) for name in ("a.png", "b.png"))
    for words in (
        [str(tmp_path / "in"), "--template", "{name}", "--skip-existing"],
        [a, "-o", a, "--skip-existing"],
        [a, b, "--template", "b{ext}", "--overwrite", "--shard", "1/1"],
        [a, "-o", str(tmp_path / "in" / ".." / "in" / "a.png")],
    ):
        assert main(["restore", *words, *WORDS]) == 2
        assert {path: path.read_bytes() for path in (tmp_path / "in").iterdir()} == before
    assert "would overwrite it" in capsys.readouterr().err
    assert main(["restore", a, "-o", a, "--overwrite", *WORDS]) == 0  # asked for
    assert Path(a).read_bytes() != before[Path(a)]


def test_what_a_format_cannot_hold_is_said_before_work_starts(tmp_path, capsys, monkeypatch):
    values = np.random.default_rng(0).integers(0, 256, (24, 32, 4), dtype=np.uint8)
    pillow.fromarray(values).save(tmp_path / "holes.png")
    values[..., 3] = 255
    pillow.fromarray(values).save(tmp_path / "opaque.png")
    pillow.new("RGB", (8192, 2)).save(tmp_path / "long.webp")
    assert main(["restore", str(tmp_path / "opaque.png"), "--format", "jpg", *WORDS]) == 0
    assert read_image(tmp_path / "opaque-restored.jpg").alpha is None
    monkeypatch.setattr("invsolve.restoration.pages.run", None)
    assert main(["restore", str(tmp_path / "holes.png"), "--format", "jpg", *WORDS]) == 2
    assert "have no transparency" in capsys.readouterr().err
    assert main(["restore", str(tmp_path / "long.webp"), "--factor", "2"]) == 2
    assert "a side of 16384 pixels is too long for this format" in capsys.readouterr().err


def test_overwriting_leaves_nothing_of_the_earlier_restoration(tmp_path, capsys):
    images(tmp_path, ["a.png"])
    words = ["restore", str(tmp_path / "a.png"), "--overwrite", "-q", *SAMPLED]
    (tmp_path / "a-restored-notes.txt").write_text("mine")
    assert main([*words, "--samples", "3"]) == 0
    (tmp_path / "a-restored-samples" / "mine.png").write_bytes(b"mine")
    assert main([*words, "--samples", "2"]) == 0
    names = sorted(path.name for path in (tmp_path / "a-restored-samples").iterdir())
    assert names == ["mine.png", "sample1.png", "sample2.png"]
    assert main([*words, "--no-comparison"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a-restored-notes.txt", "a-restored-samples", "a-restored.json", "a-restored.png", "a.png"
    ]  # fmt: skip
    assert main([*words, "--no-record", "--no-comparison"]) == 0
    assert not (tmp_path / "a-restored.json").exists()


def test_a_failure_leaves_the_record_of_a_restoration_that_is_there(tmp_path):
    images(tmp_path / "in", ["a.png", "b.png"])
    words = ["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *WORDS]
    assert main(words) == 0
    before = (tmp_path / "out" / "a-restored.json").read_bytes()
    broken(tmp_path / "in", "a.png")
    assert main([*words, "--overwrite"]) == 1
    assert (tmp_path / "out" / "a-restored.json").read_bytes() == before


def test_exit_code_2_if_nothing_could_start(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    broken(tmp_path / "in")
    assert main(["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *WORDS]) == 2
    assert main(["restore", str(tmp_path / "in" / "broken.png"), *WORDS]) == 2
    assert main(["restore", str(tmp_path / "in"), "--shard", "3/2", *WORDS]) == 2
    assert "--shard must be I/N" in capsys.readouterr().err


def test_an_image_goes_through_standard_streams(tmp_path):
    images(tmp_path, ["a.jpg"])
    env = {**os.environ, "PYTHONPATH": str(Path(iv.__file__).parent.parent)}
    command = [sys.executable, "-m", "invsolve", "restore", "-", "-o", "-", "--format", "png", *WORDS]
    content = (tmp_path / "a.jpg").read_bytes()
    done = subprocess.run(command, input=content, capture_output=True, env=env, cwd=tmp_path, check=True)
    assert done.stdout.startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["a.jpg"]


def test_an_address_is_fetched_and_its_file_is_gone_afterwards(tmp_path):
    import fsspec

    images(tmp_path, ["a.png"])
    with fsspec.open("memory://bucket/a.png", "wb") as file:
        file.write((tmp_path / "a.png").read_bytes())  # pyright: ignore[reportAttributeAccessIssue]
    (outcome,) = iv.restore_many("memory://bucket/a.png", out=tmp_path / "out", **QUICK)
    assert outcome.status == "restored"
    assert outcome.record is not None
    assert outcome.record["input"]["path"] == "memory://bucket/a.png"
    (missing,) = iv.restore_many("memory://bucket/none.png", out=tmp_path / "out", **QUICK)
    assert (missing.status, missing.started) == ("failed", False)
    assert "cannot be read" in missing.error


def test_arrays_come_back_in_order_with_their_failures():
    rng = np.random.default_rng(0)
    arrays = [
        rng.random((16, 16, 3), np.float32),
        np.full((4, 4, 9), 0.5, np.float32),
        rng.random((24, 16), np.float32),
    ]
    found = list(iv.restore_many(arrays, **QUICK))
    assert [outcome.status for outcome in found] == ["restored", "failed", "restored"]
    assert found[0].restoration is not None
    alone = iv.restore(arrays[0], **QUICK)
    assert (found[0].restoration.image.pixels == alone.image.pixels).all()
    assert "channels" in found[1].error


def test_the_prior_is_loaded_once(tmp_path, monkeypatch):
    images(tmp_path / "in", ["a.png", "b.png", "c.png"])
    loaded = []
    load = loading.load_prior
    monkeypatch.setattr(loading, "load_prior", lambda options: loaded.append(options.prior) or load(options))
    loading.release_prior()
    assert len(list(iv.restore_many(tmp_path / "in", out=tmp_path / "out", **QUICK))) == 3
    assert loaded == ["natural"]


def scaled() -> iv.Prior:
    """For `prior="test_many:scaled"`: a prior without a card."""
    made.append("made")
    return iv.priors.load("natural")


made: list[str] = []


def test_a_prior_without_a_card_is_loaded_once_too(tmp_path):
    """Its traits are known only when it is loaded; it was loaded again for every image."""
    images(tmp_path / "in", ["a.png", "b.png", "c.png"])
    for run in (
        lambda: list(iv.restore_many(tmp_path / "in", out=tmp_path / "out", prior="test_many:scaled", **QUICK)),
        lambda: iv.restore(tmp_path / "in" / "a.png", prior="test_many:scaled", **QUICK),
    ):
        made.clear()
        loading.release_prior()
        run()
        assert made == ["made"]


def test_a_weight_file_that_was_written_again_is_loaded_again(tmp_path):
    path = tmp_path / "mine.safetensors"
    content = (WEIGHTS / "natural.safetensors").read_bytes()
    path.write_bytes(content)
    options = Options.of("denoise", prior=str(path))
    first = loading.kept_prior(options)
    assert loading.kept_prior(options) is first
    path.write_bytes(content)
    os.utime(path, ns=(0, 0))
    assert loading.kept_prior(options) is not first


def test_one_image_is_not_taken_apart():
    image = np.zeros((16, 16, 3), np.float32)
    for one in (image, pillow.new("RGB", (16, 16))):
        with pytest.raises(InputError, match="a list of images"):
            iv.restore_many(one, **QUICK)
    with pytest.raises(InputError, match="name a folder with out"):
        iv.restore_many(["a.png"], executor=Here(restore_item), **QUICK)


def test_no_two_images_write_the_same_file(tmp_path, capsys, monkeypatch):
    """A comparison figure has the name of another image; case is ignored on some systems."""
    images(tmp_path / "in", ["a.png", "a-comparison.png"])
    names = [str(tmp_path / "in" / name) for name in ("a.png", "a-comparison.png")]
    words = ["restore", *names, "-o", str(tmp_path / "out"), "--template", "{stem}{ext}"]
    assert main([*words, *WORDS]) == 2
    assert "would both be written to" in capsys.readouterr().err
    assert main([*words, "--no-comparison", *WORDS]) == 0
    images(tmp_path, ["x/IMG.png", "y/img.png"])
    both = ["restore", str(tmp_path / "x" / "IMG.png"), str(tmp_path / "y" / "img.png"), "-o", str(tmp_path / "z")]
    monkeypatch.setattr(batch_items, "_ignores_case", lambda folder: True)
    assert main([*both, *WORDS]) == 2
    monkeypatch.setattr(batch_items, "_ignores_case", lambda folder: False)
    assert main([*both, *WORDS]) == 0


def test_images_that_are_left_out_are_named(tmp_path, capsys):
    images(tmp_path / "in", ["a.png", "a-comparison.png", "b.png"])
    words = ["restore", str(tmp_path / "in"), "-o", str(tmp_path / "in"), "--template", "{stem}{ext}", "--overwrite"]
    main([*words, *WORDS])
    assert "left out, written by earlier runs: a-comparison.png" in capsys.readouterr().err
    main([*words, *WORDS])
    assert "not images" not in capsys.readouterr().err  # the records of the first run


def test_a_format_that_cannot_be_written_is_not_a_folder(tmp_path, capsys):
    images(tmp_path, ["a.png"])
    assert main(["restore", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.heic"), *WORDS]) == 2
    assert ".heic files cannot be written" in capsys.readouterr().err
    assert not (tmp_path / "b.heic").exists()


def test_an_executor_gives_the_same_files_in_the_same_order(tmp_path):
    images(tmp_path / "in", [f"{i}.png" for i in range(5)])
    broken(tmp_path / "in", "3b.png")
    alone = [o.source for o in iv.restore_many(tmp_path / "in", out=tmp_path / "alone", **QUICK)]
    here = [
        o.source for o in iv.restore_many(tmp_path / "in", out=tmp_path / "here", executor=Here(restore_item), **QUICK)
    ]
    assert here == alone
    assert restored(tmp_path / "here") == restored(tmp_path / "alone")
    assert len(restored(tmp_path / "here")) == 5


@pytest.mark.parametrize(("word", "follows"), [("--overwrite", True), ("--skip-existing", False)])
def test_a_batch_that_can_go_on_has_the_same_threads_every_time(tmp_path, monkeypatch, word, follows):
    asked = []
    monkeypatch.setattr(threads, "arrange", lambda environment, follow: asked.append(follow))
    assert main(["restore", str(tmp_path / "nothing.png"), word]) == 2
    assert asked == [follows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "kills"), [(["--workers", "1"], 8), (["--workers", "2"], 8), (["--ray", "local", "--workers", "2"], 3)]
)
def test_killed_at_random_moments_every_image_is_restored_once(tmp_path, place, kills):
    """A batch that is killed while it starts and while it computes ends as one that was not disturbed."""
    names = [f"{i:02}.{'jpg' if i % 3 else 'png'}" for i in range(5 * kills)]
    images(tmp_path / "in", names, side=40)
    for i in range(3):
        broken(tmp_path / "in", f"broken{i}.png")
    env = {**os.environ, "PYTHONPATH": str(Path(iv.__file__).parent.parent), "OMP_NUM_THREADS": "1"}

    def command(out: str) -> list[str]:
        own = ["-o", str(tmp_path / out), "--skip-existing", *place, "-q", *WORDS]
        return [sys.executable, "-m", "invsolve", "restore", str(tmp_path / "in"), *own]

    def finished() -> dict[str, int]:
        """When the record was written, which is the last file of an image."""
        return {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("[0-9]*.json")}

    assert subprocess.run(command("reference"), env=env, capture_output=True).returncode == 1
    rng, done = random.Random(str(place)), {}
    for kill in range(kills):
        run = subprocess.Popen(command("out"), env=env, stderr=subprocess.DEVNULL)
        more = rng.randint(0, 8) if kill else 4
        while more and run.poll() is None and len(finished()) < len(done) + more:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3 if more else 3))
        run.send_signal(signal.SIGKILL)
        run.wait()
        time.sleep(0.5)  # workers end with it
        assert done.items() <= finished().items()  # nothing is done again
        done = finished()
    assert len(done) >= 4
    assert subprocess.run(command("out"), env=env, capture_output=True).returncode == 1
    assert done.items() <= finished().items()
    assert restored(tmp_path / "out") == restored(tmp_path / "reference")
    assert len(restored(tmp_path / "out")) == len(names)
    assert len(list((tmp_path / "out").glob("broken*.json"))) == 3


def test_workers_that_all_die_at_once_are_told_once():
    workers = Workers(os._exit, 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvsolveError, match=r"12 workers died before any had finished.* the last one: exit code"):
        list(outcomes(workers, [1000 + i for i in range(50)]))
    workers.close()


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_image(tmp_path):
    images(tmp_path / "in", [f"{i}.png" for i in range(6)])
    workers = Workers(restore_item, 2)
    found = iv.restore_many(tmp_path / "in", out=tmp_path / "out", executor=workers, **QUICK)
    first = next(found)
    os.kill(workers.pids()[0], signal.SIGKILL)
    assert [first.status, *(o.status for o in found)] == ["restored"] * 6


def test_every_page_of_a_tiff_file_is_restored_into_one_file(tmp_path, capsys):
    rng = np.random.default_rng(0)
    pages = [rng.integers(0, 65536, shape).astype(np.uint16) for shape in ((24, 32, 3), (32, 24, 3), (24, 24))]
    with tifffile.TiffWriter(tmp_path / "scan.tif") as writer:
        for page in pages:
            writer.write(
                page, photometric="rgb" if page.ndim == 3 else "minisblack", metadata=None, resolution=(300, 300)
            )
        writer.write(pages[0][::2, ::2], photometric="rgb", subfiletype=1, metadata=None)  # a small copy is no page
    scan = str(tmp_path / "scan.tif")
    assert main(["restore", scan, "-o", str(tmp_path / "out.tif"), *WORDS]) == 0
    assert "and 2 more pages" in capsys.readouterr().out
    with tifffile.TiffFile(tmp_path / "out.tif") as written:
        assert [page.shape for page in written.pages] == [page.shape for page in pages]
        assert all(page.dtype == np.uint16 for page in written.pages)
    for i, page in enumerate(pages):
        own = read_image(tmp_path / "out.tif", page=i)
        assert own.metadata.dpi == (300, 300)
        np.testing.assert_allclose(own.pixels, iv.restore(page, **QUICK).image.pixels, atol=1.01 / 65535)
    record = json.loads((tmp_path / "out.json").read_text())
    assert [record["page"], *(page["page"] for page in record["further_pages"])] == [1, 2, 3]
    (outcome,) = iv.restore_many(scan, **QUICK)
    assert outcome.restoration is not None
    assert len(outcome.restoration.further) == 2
    for words, message in (
        (["--format", "png"], "has 3 pages, but a .png file holds only one"),
        (["--checkpoint", str(tmp_path / "run.pt")], "split the file"),
    ):
        assert main(["restore", scan, *words, *WORDS]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(InputError, match="there is no page 4"):
        read_image(scan, page=3)


def test_what_an_earlier_run_has_made_is_not_restored_again(tmp_path, capsys, monkeypatch):
    images(tmp_path / "in", ["a.png", "b.png", "more/c.png"])
    monkeypatch.chdir(tmp_path)
    assert main(["restore", "in", *WORDS]) == 0
    told = capsys.readouterr().err
    assert "2 restored in" in told
    assert "folders left out (--recursive searches them): more" in told
    for words in (["in"], ["in/*.png"], ["in", "--recursive"]):
        assert main(["restore", *words, "--skip-existing", *WORDS]) == 0
        assert "2 skipped" in capsys.readouterr().err
    written = sorted(str(p.relative_to("in")) for p in Path("in").rglob("*.png") if "comparison" not in p.name)
    assert written == ["a-restored.png", "a.png", "b-restored.png", "b.png", "more/c-restored.png", "more/c.png"]
    again = ["restore", "in/a-restored.png", "in/a.png", "-o", "new", *WORDS]
    assert main(again) == 0  # what is named is restored, whatever it is
    assert "2 restored" in capsys.readouterr().err
    assert main(["restore", "in", "-o", "in/out", *WORDS]) == 0
    capsys.readouterr()
    assert main(["restore", "in", "-o", "in/out", "--skip-existing", "--recursive", *WORDS]) == 0
    assert "2 skipped" in capsys.readouterr().err
    assert not list(Path("in").rglob("*restored-restored*"))


def test_what_a_record_tells_of_is_not_restored_again_under_other_names(tmp_path, capsys, monkeypatch):
    images(tmp_path / "in", ["grey.jpg", "b.png"])
    monkeypatch.chdir(tmp_path)
    assert main(["restore", "in", "--samples", "2", *SAMPLED]) == 0
    images(tmp_path / "in", ["grey.png"])  # now there are two of this name, which are told apart by their endings
    capsys.readouterr()
    assert main(["restore", "in", "--recursive", "--template", "{stem}-new{ext}", *WORDS]) == 0
    assert "3 restored in" in capsys.readouterr().err
    made = {"b-new.png", "grey-jpg-new.jpg", "grey-png-new.png"}
    assert {p.name for p in Path("in").glob("*-new.*") if p.suffix != ".json"} == made
    assert main(["restore", "in", "--format", "webp", "--overwrite", *WORDS]) == 0
    assert "3 restored in" in capsys.readouterr().err
    assert main(["restore", "in", "-o", "one", "--template", "{name}", *WORDS]) == 0
    assert main(["restore", "one", "-o", "two", *WORDS]) == 0  # what one run has made may be the other's images
    assert len([p for p in Path("two").iterdir() if p.suffix != ".json" and "comparison" not in p.name]) == 3


def test_hidden_folders_are_not_searched(tmp_path):
    images(tmp_path, ["a.png", ".trash/b.png", "more/.thumbnails/c.png", "more/d.png"])
    assert [entry.name for entry in find([tmp_path], recursive=True).entries] == ["a.png", "more/d.png"]


def test_a_file_is_as_it_came_only_if_all_its_pages_are(tmp_path, capsys):
    noisy = np.random.default_rng(0).normal(128, 40, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    flat = np.full((64, 64, 3), 90, np.uint8)
    for name, pages in (("mixed.tif", (flat, noisy)), ("flat.tif", (flat, flat))):
        with tifffile.TiffWriter(tmp_path / name) as writer:
            for page in pages:
                writer.write(page, photometric="rgb", metadata=None)
    words = ["--quality", "fast", "--precision", "float32"]
    assert main(["restore", str(tmp_path / "mixed.tif"), *words]) == 0
    told = capsys.readouterr().out
    assert "the first page is unchanged" in told
    assert "and 1 more pages: 1 by pnp-hqs" in told
    assert (tmp_path / "mixed-restored-comparison.png").exists()
    assert main(["restore", str(tmp_path / "flat.tif"), *words]) == 0
    assert "the image is unchanged: the file was copied byte for byte" in capsys.readouterr().out


def test_the_summary_names_what_failed_and_counts_what_came_unchanged(tmp_path, capsys):
    images(tmp_path / "in", ["a.png"])
    pillow.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "in" / "flat.png")
    for i in range(6):
        broken(tmp_path / "in", f"broken{i}.png")
    assert (
        main(
            [
                "restore",
                str(tmp_path / "in"),
                "-o",
                str(tmp_path / "out"),
                "--quality",
                "fast",
                "--precision",
                "float32",
            ]
        )
        == 1
    )
    told = capsys.readouterr().err
    assert "failed: broken0.png, broken1.png, broken2.png, broken3.png, broken4.png and 1 more" in told
    assert "(1 of them unchanged: no clear degradation was found)" in told
    assert not (tmp_path / "out" / "flat-restored-comparison.png").exists()


def test_without_a_terminal_a_line_now_and_then_tells_how_far_it_is(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("invsolve.commands.progress.time.monotonic", lambda: now[0])
    with Shown(20) as shown:
        for seconds, status in (
            (0, "skipped"),
            (20, "restored"),
            (20, "restored"),
            (600, "failed"),
            (90000, "restored"),
        ):
            now[0] += seconds
            shown.done(status)
    assert capsys.readouterr().err.splitlines() == [
        "invsolve: 3 of 20 images, about 6 min left",  # what was skipped took no time
        "invsolve: 4 of 20 images, about 57 min left",
        "invsolve: 5 of 20 images, about 94 h left",
    ]


def test_a_kernel_that_is_read_is_neither_overwritten_nor_removed(tmp_path, capsys):
    images(tmp_path, ["a.png"], side=48)
    kernel = tmp_path / "a-restored-kernel.png"
    pillow.fromarray(np.full((5, 5), 255, np.uint8)).save(kernel)
    record = {"status": ["ok"], "outputs": {"restored": "a-restored.png", "kernel": "a-restored-kernel.png"}}
    (tmp_path / "a-restored.json").write_text(json.dumps(record))  # as blind deblurring left it
    words = ["restore", str(tmp_path / "a.png"), "--task", "deblur", "--kernel", str(kernel)]
    words += ["--noise", "0.05", "--quality", "fast", "--precision", "float32", "--overwrite"]
    before = kernel.read_bytes()
    assert main(words) == 0, capsys.readouterr().err
    assert kernel.read_bytes() == before
    assert main([*words, "-o", str(kernel)]) == 2
    assert "is the file of --kernel" in capsys.readouterr().err


def seen_devices(job: str) -> bytes:
    """A job that says which GPU its worker sees."""
    time.sleep(0.05)
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").encode()


@pytest.mark.parametrize(("visible", "devices", "expected"), [(None, 2, {"0", "1"}), ("5,3,7", 2, {"5", "3"})])
def test_each_worker_sees_a_gpu_of_its_own(visible, devices, expected, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    workers = Workers(seen_devices, 4, devices=devices)
    try:
        found = {content.decode() for _, content, _ in outcomes(workers, [str(i) for i in range(12)]) if content}
    finally:
        workers.close()
    assert found == expected


@pytest.mark.parametrize(("visible", "found"), [("", 0), (None, 1), ("1", 1)])
def test_fewer_gpus_than_asked_for_are_reported_before_a_worker_starts(visible, found, tmp_path, monkeypatch, capsys):
    """The workers without a GPU restored on the CPU without a word."""
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if found:
        monkeypatch.setattr("torch.cuda.device_count", lambda: found)
    with pytest.raises(InputError, match=f"needs 2 GPUs, but torch sees {found}"):
        Workers(seen_devices, 4, devices=2)
    images(tmp_path, ["a.png", "b.png"])
    assert main(["restore", str(tmp_path), "--devices", "2", *WORDS]) == 2
    assert "needs 2 GPUs" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}


def test_a_name_of_the_longest_length_stops_no_folder(tmp_path):
    images(tmp_path, ["a.png", f"{'n' * 251}.png"])
    assert main(["restore", str(tmp_path), "-q", *WORDS]) == 0


@pytest.mark.parametrize(("words", "message"), [
    (["--devices", "0"], "--devices must be at least 1"),
    (["-", "--workers", "2", "-o", "out"], "only this process can read standard input"),
    (["-o", "-", "--format", "xyz"], "--format must be one of"),
    (["-o", "-", "--output-quality", "0"], "--output-quality must be from 1 to 100"),
])  # fmt: skip
def test_what_cannot_be_shared_out_or_streamed_is_said_at_once(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images(tmp_path, ["a.png"])
    assert main(["restore", "a.png", *words, *WORDS]) == 2
    assert message in capsys.readouterr().err


def test_the_memory_of_a_machine_without_sysconf_is_known(monkeypatch):
    import ctypes

    from invsolve.restoration import memory

    class Kernel:
        @staticmethod
        def GlobalMemoryStatusEx(pointer):
            status = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_uint64))
            status[1] = 16 * 2**30  # behind the two 32 bit numbers
            return 1

    monkeypatch.delattr("os.sysconf")
    monkeypatch.setattr(ctypes, "windll", type("Dlls", (), {"kernel32": Kernel}), raising=False)
    assert memory._of_machine() == 16 * 2**30
