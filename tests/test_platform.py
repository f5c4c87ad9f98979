"""Runs where people are: imports are declared, none is of one system alone, a missing package stops its part alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import invsolve as iv
from invsolve.solvers.steps.conjugate_integrator import _gauss_legendre

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "invsolve").rglob("*.py"))
ONE_SYSTEM = {"fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog", "msvcrt", "winreg", "winsound"}
DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless", "skimage": "scikit-image"}
OPTIONAL = {"torchkbnufft"}  # named in the error where it is missing


def imported(nodes: list[ast.stmt] | ast.AST) -> set[str]:
    """The first part of the names of all modules imported by these statements."""
    found = set()
    for node in nodes if isinstance(nodes, list) else ast.walk(nodes):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_import_nothing_of_one_system_alone(path):
    assert not imported(ast.parse(path.read_text()).body) & ONE_SYSTEM
    assert "os.uname" not in path.read_text()


def test_every_package_that_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    declared = {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower().replace("-", "_") for line in lines}
    used = set().union(*(imported(ast.parse(path.read_text())) for path in FILES))
    used -= {*sys.stdlib_module_names, "invsolve", *OPTIONAL}
    assert {DISTRIBUTIONS.get(name, name).lower().replace("-", "_") for name in used} <= declared


WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(("deepinv", "kornia", "piq", "cv2", "torchmetrics", "torchvision")))
import torch, invsolve as iv
from invsolve import costs, operators, priors, solvers
A = operators.as_operator(lambda x: x[..., ::2], in_shape=(3, 32, 32), linear=True)
cost = costs.GaussianLikelihood(A, A(torch.rand(1, 3, 32, 32)), 0.05)
assert iv.solve(iv.Problem(priors.load("natural"), cost), solvers.PnPHQS(n_steps=1)).ok
for make in (lambda: operators.Tomography((1, 8, 8), 4), lambda: priors.load("deepinv:DRUNet")):
    try:
        make()
    except iv.InputError as error:
        assert "pip install deepinv" in str(error), error
    else:
        raise AssertionError("no error")
print("done")
"""


def test_missing_packages_stop_only_what_needs_them():
    run = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert run.stdout == "done\n", run.stderr


def test_the_package_shows_its_public_names_alone():
    assert dir(iv) == sorted(iv.__all__)
    for name in ("diagnostics", "io", "metrics", "testing"):
        assert getattr(iv, name).__name__ == f"invsolve.{name}"


def test_the_quadrature_is_that_of_the_jacobi_matrix():
    """Golub and Welsch 1969: nodes are its eigenvalues, weights the squared first entries of its eigenvectors."""
    k = np.arange(1, 16)
    off = k / np.sqrt(4.0 * k * k - 1)
    nodes, vectors = np.linalg.eigh(np.diag(off, 1) + np.diag(off, -1))
    got = np.array(_gauss_legendre())
    np.testing.assert_allclose(got, np.stack([(nodes + 1) / 2, vectors[0] ** 2], 1), rtol=0, atol=1e-14)
