"""The rules of the house: who may import whom, what is documented, what an import may pull in."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from imports import BELOW, PACKAGE, at_import, circle, forbidden, module_of, rooms
from lengths import advice

ROOT = Path(__file__).parent.parent
FILES = sorted(PACKAGE.rglob("*.py"))

FORMS = [
    "import invsolve.{room}.thing",
    "import invsolve.{room} as other",
    "from invsolve.{room} import thing",
    "from invsolve.{room}.thing import name",
    "from invsolve import {room}",
    "from ..{room} import thing",
    "from ..{room}.deep.thing import name",
    "from .. import {room}",
    "import importlib\nimportlib.import_module('invsolve.{room}.thing')",
    "from importlib import import_module\nother = import_module('invsolve.{room}')",
    "__import__('invsolve.{room}')",
    "def f():\n    from invsolve.{room} import thing",
    "class A:\n    def f(self):\n        import invsolve.{room}",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from invsolve.{room} import thing",
]


def source_of(path: Path) -> tuple[str, str, bool]:
    return path.read_text(), module_of(path), path.name == "__init__.py"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_only_what_lies_below_them(path):
    source, module, package = source_of(path)
    if module != "invsolve":
        assert not forbidden(source, module, package=package)


def test_every_room_has_a_rule_and_rules_only_point_down():
    assert rooms() - {"__init__"} == set(BELOW)
    assert not circle({room: set(below) for room, below in BELOW.items()})


@pytest.mark.parametrize("room", sorted(set(BELOW) - {"__main__"}))
def test_a_forbidden_import_is_found_in_every_form(room):
    others = set(BELOW) - BELOW[room] - {room, "__main__"}
    assert others or room == "commands"
    for other in others:
        for form in FORMS:
            text = form.format(room=other)
            assert forbidden(text, f"invsolve.{room}.module"), text
        assert forbidden(f"from ..{other} import thing", f"invsolve.{room}", package=True)
    for other in BELOW[room] | {room}:
        for form in FORMS:
            assert not forbidden(form.format(room=other), f"invsolve.{room}.module")


def test_a_public_name_counts_as_its_home():
    assert forbidden("from invsolve import restore", "invsolve.tasks.base")
    assert not forbidden("from invsolve import Prior", "invsolve.tasks.base")


def test_modules_do_not_import_each_other_in_circles():
    graph = {module: at_import(source, module, package=package) for source, module, package in map(source_of, FILES)}
    assert len(graph) > 150
    assert circle(graph) == []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"d", "b"}, "d": set()}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    text = "from invsolve.core.prior import Prior\ndef f():\n    from invsolve.io import Image\n"
    assert at_import(text, "invsolve.tasks.base") == {"invsolve.core.prior"}


def test_long_files_and_functions_are_named():
    text = 'def short():\n    """Words.\n' + "\n" * 90 + '    """\n    return 1\n'
    assert advice(text, "a.py") == []
    text += "def long():\n" + "    x = 1\n" * 61
    assert advice(text, "a.py") == ["a.py:95: long has 61 lines"]
    assert advice("x = 1\n" * 301, "b.py") == ["b.py: 301 lines"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_objects_are_documented(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_the_command_line_answers_without_torch():
    help_text = "from invsolve.commands.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    loaded = modules_after(help_text)
    assert "torch" not in loaded
    assert "numpy" not in loaded


def test_importing_the_library_pulls_in_torch_alone():
    heavy = {"deepinv", "kornia", "piq", "cv2", "scipy", "matplotlib", "torchvision", "PIL", "rich", "diffusers"}
    before = modules_after("import torch")
    use = "import torch, invsolve\nfrom invsolve import costs, operators, priors, solvers\ninvsolve.solve"
    after = modules_after(use)
    assert not (after - before) & heavy


def test_the_page_of_solvers_is_up_to_date():
    script = ROOT / "docs" / "make_solvers.py"
    code = f"import runpy; print(runpy.run_path({str(script)!r})['page'](), end='')"
    page = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert page == (ROOT / "docs" / "solvers.md").read_text(), "run python docs/make_solvers.py"


def test_the_embedded_prior_loads_no_more_than_it_needs():
    loaded = modules_after("from invsolve import priors\npriors.load('natural')")
    assert "safetensors" in loaded
    assert not loaded & {"sympy", "deepinv", "diffusers", "torchvision", "scipy"}
