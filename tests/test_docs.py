"""The documentation: its code runs as pasted, its reference has every public object once, its links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image as pillow

from invsolve.commands.cli import parser_with

DOCS = Path(__file__).parent.parent / "docs"
sys.path.insert(0, str(DOCS))

from docstrings import to_rst  # noqa: E402
from make_reference import MODULES, documented, written  # noqa: E402

PAGES = sorted(page.relative_to(DOCS) for page in DOCS.rglob("*.md") if not page.is_relative_to(DOCS / "reference"))
PUBLIC = (
    "invsolve", "invsolve.costs", "invsolve.diagnostics", "invsolve.io", "invsolve.metrics", "invsolve.operators",
    "invsolve.priors", "invsolve.solvers", "invsolve.testing",
)  # fmt: skip


def blocks(page: Path, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command of `invsolve`, `python` or `make` in the shell blocks of a page; variables are 1."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r" \| | > |&& ", re.sub(r"\$\w+", "1", line).removeprefix("srun ")):
                if part.startswith(("invsolve ", "python ", "make ")):
                    yield shlex.split(part, comments=True)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")], ids=str)
def test_commands_of_pages_are_accepted(page):
    for program, *words in commands(page):
        if program == "invsolve" and "..." not in words:
            assert parser_with(words[0]).parse_args(words), words
        elif words[0] == "-m":
            assert importlib.util.find_spec(words[1]), words
        elif program == "python":
            assert (DOCS.parent / words[0]).is_file(), words
        elif program == "make":
            assert f"\n{words[0]}:" in (DOCS.parent / "Makefile").read_text(), words


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_code_of_pages_is_fenced_and_therefore_tested(page):
    inside = re.sub(r"^```.*?^```", "", (DOCS / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    inside = re.sub(r"^ *(-|\d+\.) .*\n(^ +.*\n)*", "", inside, flags=re.MULTILINE)
    lines = [
        line for line in inside.splitlines() if re.match(r" {4}(import |from \w+ import |invsolve |pip |python )", line)
    ]
    assert not lines


ELSEWHERE = {"tutorial.md", "app.md"}
"""Pages whose blocks test_readme.py and test_app.py run."""


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page) and page.name not in ELSEWHERE], ids=str)
def test_python_blocks_run_in_order(tmp_path, monkeypatch, page):
    pillow.new("RGB", (32, 26), (120, 140, 90)).save(tmp_path / "photo.jpg")
    (tmp_path / "holidays").mkdir()
    shutil.copy(tmp_path / "photo.jpg", tmp_path / "holidays" / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "pasted_" + page.stem.replace("-", "_")
    (tmp_path / f"{name}.py").write_text("\n".join(blocks(page)))
    importlib.import_module(name)
    sys.modules.pop(name)


def test_the_page_about_tasks_makes_one_that_restores(tmp_path, monkeypatch):
    import torch

    import invsolve as iv

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "veil.py").write_text("\n".join(blocks(Path("howto/own-task.md"))))
    clean = 0.3 + 0.2 * torch.linspace(0, 1, 24).expand(3, 24, 24)
    veiled = 0.3 * clean + 0.7
    done = iv.restore(veiled, task="veil:Veil", strength=0.7, noise=0.01)
    assert float((done.image.pixels - clean).abs().mean()) < 0.02


def test_every_public_object_stands_once_in_the_reference():
    pages = documented()
    assert set(PUBLIC) <= set(MODULES) == set(pages)
    places = [
        (id(getattr(importlib.import_module(module), name)), module, name) for module in pages for name in pages[module]
    ]
    for module in PUBLIC:
        home = importlib.import_module(module)
        for name in home.__all__:
            value = getattr(home, name)
            if not inspect.ismodule(value):
                assert sum(place[0] == id(value) for place in places) == 1, f"{module}.{name}"
    assert set(written()) == {"index.md"} | {
        f"{module.removeprefix('invsolve.').replace('.', '-') if module != 'invsolve' else 'core'}.md"
        for module in MODULES
    }


def test_links_of_pages_lead_to_files():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", (DOCS / page).read_text()):
            if "gallery/" in target:
                script = DOCS / "examples" / f"{Path(target).name}.py"
                assert target.endswith("gallery/index") or script.is_file(), f"{page}: {target}"
            elif "reference/" not in target:
                found = (DOCS / page).parent / target
                assert found.exists() or found.with_suffix(".md").exists(), f"{page}: {target}"


def test_links_into_pages_lead_to_headings():
    for page in PAGES:
        for target, heading in re.findall(r"\]\((?!https?:)([^)#\s]*\.md)?#([^)\s]+)\)", (DOCS / page).read_text()):
            text = ((DOCS / page).parent / target if target else DOCS / page).read_text()
            titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in slugs, f"{page}: {target}#{heading}"


def test_every_page_is_in_a_table_of_contents():
    named = {
        ((DOCS / page).parent / line.strip()).resolve()
        for page in PAGES
        for block in re.findall(
            r"^```\{toctree\}\n(.*?)^```", (DOCS / page).read_text(), flags=re.DOTALL | re.MULTILINE
        )
        for line in block.splitlines()
    }
    assert {page for page in PAGES if (DOCS / page).with_suffix("") not in named} == {Path("index.md")}


def test_examples_say_what_they_show():
    examples = sorted((DOCS / "examples").glob("plot_*.py"))
    assert len(examples) >= 15
    for example in examples:
        assert re.match(r'"""\n[^\n]+\n=+\n\n', example.read_text()), example.name


def test_docstrings_become_restructured_text():
    lines = """One sentence of a_ and |x| in `code`.

    y = A x * s
        more

With x in [N, *shape]:
    a table

Args:
    x: an image,
        of [0, 1].
    how: one of
        "a"  this,
            or that;
        "b"  nothing.

Raises:
    InputError: it is not.""".splitlines()
    assert to_rst(lines) == [
        r"One sentence of a\_ and \|x\| in ``code``.", "",
        "::", "", "    y = A x * s", "        more", "",
        r"With x in [N, \*shape]:", "", "::", "", "    a table", "",
        "Args:", "    x: an image,", "        of [0, 1].",
        "    how: one of", "", '        | "a"  this,', "        |     or that;", '        | "b"  nothing.', "", "",
        "Raises:", "    InputError: it is not.", "",
    ]  # fmt: skip


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, r"\{code-block\} python")], ids=str)
def test_sketches_of_pages_are_python_and_import_what_is_there(page):
    """Blocks that need a file, a GPU or a download are not run: they are compiled, and their imports are."""
    for block in blocks(page, r"\{code-block\} python"):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                exec(compile(ast.Module([node], []), str(page), "exec"))
