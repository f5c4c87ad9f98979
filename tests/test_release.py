"""What a release needs: files that are named exist, and metadata can be read."""

from __future__ import annotations

import csv
import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import invsolve

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_licences_of_weights_and_photographs_are_packaged():
    files = PROJECT["project"]["license-files"]
    assert all((ROOT / name).is_file() for name in files)
    cards = (ROOT / "invsolve").glob("**/weights/*.md")
    assert {str(path.relative_to(ROOT)) for path in cards} <= set(files)


def test_the_photographs_of_the_training_are_listed():
    with (ROOT / "invsolve/priors/weights/natural-photographs.csv").open() as file:
        rows = list(csv.DictReader(file))
    card = (ROOT / "invsolve/priors/weights/natural.md").read_text()
    counts = [sum(row["use"] == use for row in rows) for use in ("training", "validation")]
    assert "{} photographs for training and {} for validation".format(*counts) in card
    for row in rows:
        package = row["debian package"].split(",")[0].removesuffix("-16.04")
        assert package in card
        assert (row["use"] == "validation") == any(row["file"].startswith(name) for name in validation_names(card))
        assert len(row["sha256"]) == 64


def validation_names(card: str) -> list[str]:
    """The photographs that the card names as held out."""
    line = re.search(r"Held out for validation: ([^.]+)\.", card)
    assert line
    return re.split(r",\s+", line[1])


def test_everything_but_python_is_package_data():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["invsolve"]
    packaged = {path for pattern in patterns for path in (ROOT / "invsolve").glob(pattern)}
    others = {path for path in (ROOT / "invsolve").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert not {str(path) for path in others - packaged}


def test_the_version_is_that_of_the_installed_package():
    assert invsolve.__version__ == importlib.metadata.version("invsolve")
    assert re.match(r"\d+\.\d+\.\d+", PROJECT["tool"]["setuptools_scm"]["fallback_version"])


@pytest.mark.parametrize(
    "path", [ROOT / "CITATION.cff", *sorted((ROOT / ".github").rglob("*.yml"))], ids=lambda path: path.name
)
def test_files_of_the_forge_are_yaml(path):
    assert yaml.safe_load(path.read_text())


def test_workflows_try_what_is_promised():
    tests = (ROOT / ".github/workflows/tests.yml").read_text()
    lowest = {
        name: re.search(rf'"{name}>=([\d.]+)"', (ROOT / "pyproject.toml").read_text()) for name in ("torch", "deepinv")
    }
    for name, found in lowest.items():
        assert found is not None
        assert f"{name}=={found[1]}" in tests
    for line in PROJECT["project"]["classifiers"]:
        if match := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line):
            assert f'"{match[1]}"' in tests


def test_the_conda_recipe_asks_for_the_same_packages():
    recipe = (ROOT / "conda/meta.yaml").read_text()
    names = {"torch": "pytorch", "opencv-python-headless": "py-opencv"}
    for requirement in PROJECT["project"]["dependencies"]:
        name, _, bound = requirement.partition(">=")
        assert f"- {names.get(name, name)}{f' >={bound}' if bound else ''}\n" in recipe
