"""Help and errors of the command line come without torch: every command, in a process where heavy imports fail."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from invsolve.commands.cli import COMMANDS, parser_with
from invsolve.core.lazy import uncollected_imports

ROOT = Path(__file__).parent.parent

HEAVY = ("torch", "torchvision", "numpy", "scipy", "PIL", "rich", "cv2", "tifffile", "imagecodecs", "deepinv", "kornia")
SLOW = ("importlib.metadata",)  # a quarter of the time of a command's help; what makes completions needs it

WALK = """
import contextlib, io, json, sys
for name in {heavy!r}:
    sys.modules[name] = None
from invsolve.commands.cli import main
answers = []
for words in json.loads(sys.stdin.read()):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
    answers.append([code, out.getvalue()])
sys.stdout.write(json.dumps(answers))
"""


def answers(*lines: list[str], without: tuple[str, ...] = HEAVY) -> list[tuple[int, str]]:
    """Exit codes and what was printed, of commands in one process without heavy packages."""
    call = [sys.executable, "-c", WALK.format(heavy=without)]
    found = subprocess.run(call, input=json.dumps(lines), capture_output=True, text=True, check=True, cwd=ROOT)
    return [(code, text) for code, text in json.loads(found.stdout)]


def every_parser() -> dict[str, str]:
    """The help of each command and action, by its words, as this process (which has torch) writes it."""
    found = {}
    left = [("", parser_with(*COMMANDS))]
    while left:
        words, parser = left.pop()
        found[words.strip()] = parser.format_help()
        for action in parser._actions:
            for name, inner in (action.choices if isinstance(action.choices, dict) else {}).items():
                left.append((f"{words} {name}", inner))
    return found


def test_help_of_every_command_and_action_is_whole_without_torch(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    expected = every_parser()
    assert {"restore", "bench sweep", "priors fetch", "train denoiser", "completion"} <= set(expected)
    expected.pop("")  # the list of commands: without a command there are no parsers to compare with
    for (code, text), (words, whole) in zip(
        answers(*([*w.split(), "--help"] for w in expected), without=HEAVY + SLOW), expected.items(), strict=True
    ):
        assert code == 0, (words, text)
        assert text == whole, words


WRONG = {
    "restore nowhere.png": "there is no file nowhere.png",
    "restore README.md --task x": "unknown task 'x'",
    "restore README.md --solver pnp": "unknown solver 'pnp'; known: c-pigdm, ",
    "restore README.md --prior natrual": "unknown prior 'natrual'",
    "restore README.md --prior no/file.pt": "there is no prior, file or folder no/file.pt",
    "restore README.md --facter 3": "unrecognized arguments: --facter 3",
    "restore README.md --factor 1": "factor must be a whole number of at least 2, got 1",
    "restore README.md --task inpaint --blur-sigma 2": "--blur-sigma belongs to the task blind-deblur or deblur",
    "restore README.md --quality finest": "quality must be one of fast, balanced, best; got 'finest'",
    "restore README.md --samples 0": "samples must be at least 1, got 0",
    "restore README.md --shard 3/2": "--shard must be I/N",
    "restore README.md --set n_steps": "--set takes NAME=VALUE",
    "restore README.md -o nowhere/out/": "the folder nowhere does not exist",
    "tune --images . --solver pnp -o x.toml": "unknown solver 'pnp'",
    "tune --images . --solver dps -o x.json": "--out must be a .toml file",
    "calibrate --images . --solver pnp -o x.json": "unknown solver 'pnp'",
    "calibrate --images . --task x -o x.json": "unknown task 'x'",
    "doctor natrual": "unknown prior 'natrual'",
    "guide --class 3 --prior natrual": "unknown prior 'natrual'",
    "bench sweep --task x": "invalid choice: 'x'",
    "app --port 0": "--port must be from 1 to 65535",
    "resotre": "did you mean 'restore'?",
}


def test_wrong_arguments_are_told_without_torch():
    for (code, text), (words, expected) in zip(answers(*(w.split() for w in WRONG)), WRONG.items(), strict=True):
        assert (code, expected in text) == (2, True), (words, text)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_options_and_names(shell):
    ((code, script),) = answers(["completion", shell])
    assert code == 0
    for word in ("restore", "sweep", "time-limit", "blind-deblur", "pnp-hqs", "ffhq256"):
        assert word in script, word


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_what_the_script_says():
    ((_, script),) = answers(["completion", "bash"])
    ask = 'COMP_WORDS=({words}); COMP_CWORD={place}; _shtab_invsolve; echo "${{COMPREPLY[@]}}"\n'
    asked = {
        "invsolve rest": "restore",
        "invsolve restore --time-": "--time-limit",
        "invsolve restore --solver pnp": "pnp-dm pnp-hqs",
        "invsolve restore --mask READ": "README.md",
        "invsolve bench sw": "sweep",
    }
    lines = [ask.format(words=words, place=len(words.split()) - 1) for words in asked]
    found = subprocess.run(
        ["bash"], input=script + "".join(lines), capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert [" ".join(sorted(line.split())) for line in found.stdout.splitlines()] == list(asked.values())


def test_imports_of_a_command_are_left_out_of_collections():
    was, enabled = gc.get_freeze_count(), gc.isenabled()
    with uncollected_imports():
        assert not gc.isenabled()
    assert gc.isenabled() == enabled
    assert gc.get_freeze_count() > was
    gc.unfreeze()
