"""Files are there whole or not at all, whoever plants what beside them, whatever they are called."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest
import torch

import invsolve as iv
from invsolve.commands.cli import main
from invsolve.core.checks import enough_memory
from invsolve.core.files import destination, write_whole, written_whole
from invsolve.io import Image, write_image


def test_a_temporary_file_has_a_random_name_and_what_was_planted_is_not_written_to(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in (f".o.png.{os.getpid()}.part", ".o.png.part"):
        (tmp_path / name).symlink_to(victim)
    seen = []
    with written_whole(tmp_path / "o.png") as part:
        seen.append(part.name)
        part.write_text("new")
    with written_whole(tmp_path / "o.png") as part:
        seen.append(part.name)
        part.write_text("new")
    assert seen[0] != seen[1]
    assert victim.read_text() == "precious"
    monkeypatch.setattr("secrets.token_hex", lambda n: "known")
    (tmp_path / ".known.part").symlink_to(victim)
    with pytest.raises(FileExistsError), written_whole(tmp_path / "o.png") as part:
        part.write_text("overwritten")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    "write", [lambda path: write_whole(destination(path), b"new"), lambda path: _text(path, "new")]
)
def test_a_link_stays_and_its_target_is_written(write, tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(Path("folder") / "target")
    write(link)
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["target"]
    circle = tmp_path / "a"
    circle.symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(iv.InputError, match="link"):
        write(circle)


def _text(path, text):
    with written_whole(path) as part:
        part.write_text(text)


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o002])
def test_permissions_follow_the_umask_and_a_file_that_is_replaced_hands_on_its_own(mask, tmp_path):
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "a", b"new")
        _text(tmp_path / "b", "new")
        write_image(tmp_path / "c.png", Image(torch.rand(3, 4, 4)))
        private = tmp_path / "private"
        private.touch(0o600)
        private.chmod(0o640)
        _text(private, "new")
    finally:
        os.umask(before)
    assert {oct(p.stat().st_mode & 0o777) for p in (tmp_path / "a", tmp_path / "b", tmp_path / "c.png")} == {
        oct(0o666 & ~mask)
    }
    assert private.stat().st_mode & 0o777 == 0o640


def test_without_replace_what_is_there_stays_and_a_link_counts_as_there(tmp_path):
    assert write_whole(tmp_path / "a", b"one", replace=False)
    assert not write_whole(tmp_path / "a", b"two", replace=False)
    assert (tmp_path / "a").read_bytes() == b"one"
    link = tmp_path / "link.png"
    link.symlink_to("nothing")
    assert not write_whole(link, b"two", replace=False)
    with pytest.raises(iv.InputError, match="already exists"):
        write_image(link, IMAGE)
    write_image(link, IMAGE, overwrite=True)
    assert link.is_symlink()
    assert (tmp_path / "nothing").read_bytes()[1:4] == b"PNG"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "link.png", "nothing"]


IMAGE = Image(torch.rand(3, 4, 4))
NAMES = [
    "n" * 251, "ä" * 125, "[bold]", "[link=x]", "a\x1b[31mred\x1b[0m", "tab\tnew\nline", "=cmd|' C calc'!A0", "-r",
    "\u202egnp", "a b", "'\"`$(x)", "<script>", "%n", "{0}", "..", ".png", "\\", "é", "日本語",
]  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"\xff\xfe")], ids=range(len(NAMES) + 1))
def test_any_name_is_restored_and_no_control_character_reaches_the_terminal(name, tmp_path, capsys):
    path = tmp_path / f"{name}.png"
    write_image(path, Image(torch.rand(3, 16, 16)))
    assert main(["restore", str(path), "--task", "denoise", "--noise", "0.05", "--quality", "fast"]) == 0
    assert main(["restore", str(path), "--task", "denoise"]) == 2
    out, err = capsys.readouterr()
    assert all(c.isprintable() or c in "\n\t" for c in out + err)
    written = sorted(p for p in tmp_path.iterdir() if p != path)
    assert len(written) == 3
    record = json.loads(next(p for p in written if p.suffix == ".json").read_text())
    assert (tmp_path / record["outputs"]["restored"]).is_file()


def test_a_comparison_that_cannot_be_written_costs_no_restoration(tmp_path, monkeypatch, caplog):
    from invsolve.io import encode

    fresh = encode.new_file

    def full(target):
        if target.suffix == ".json" or "comparison" in target.name:
            raise OSError(28, "No space left on device")
        return fresh(target)

    monkeypatch.setattr(encode, "new_file", full)
    restoration = iv.restore(torch.rand(3, 16, 16), "denoise", noise=0.05, quality="fast")
    restoration.save(tmp_path / "out.png")
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
    assert caplog.text.count("this file is not written, the restoration is not affected") == 2


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        torch.OutOfMemoryError("CUDA out of memory."),
    ],
)
def test_a_machine_without_memory_is_one_sentence(error, monkeypatch, tmp_path, capsys):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr("invsolve.restoration.run.solve", fail)
    with pytest.raises(iv.InvsolveError, match=r"ran out of memory: give a smaller --memory"):
        iv.restore(torch.rand(3, 16, 16), "denoise", noise=0.05, quality="fast")
    write_image(tmp_path / "a.png", IMAGE)
    assert main(["restore", str(tmp_path / "a.png"), "--task", "denoise", "--noise", "0.05"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_another_error_is_not_taken_for_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="sizes differ"), enough_memory():
        raise RuntimeError("sizes differ")


def test_nothing_is_imported_at_the_top_of_a_module_that_only_unix_has():
    unix = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
    for path in (Path(iv.__file__).parent).rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert not unix & set(named), path
