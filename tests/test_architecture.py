"""The rules of the house: who may import whom, how long a file and a function may be, what an import may pull in."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "invsolve"
FILES = sorted(PACKAGE.rglob("*.py"))

FOUNDATION = {"core"}
PARTS = {"operators", "costs", "priors"}
USERS = {"metrics", "diagnostics", "bench", "train", "restoration", "tasks", "io", "presets", "testing", "cli"}
ALLOWED = {
    "core": FOUNDATION,
    **{part: FOUNDATION | {part} for part in PARTS},
    "solvers": FOUNDATION | {"solvers"},
    "testing": FOUNDATION | PARTS | {"solvers", "testing"},
}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("invsolve."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("invsolve.")}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_only_what_lies_below_them(path):
    allowed = ALLOWED.get(room(path))
    if allowed is not None:
        assert imported_rooms(ast.parse(path.read_text())) <= allowed


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
