"""Write docs/reference/*.md, which list every public object once: python docs/make_reference.py"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

PAGES = Path(__file__).parent / "reference"
MODULES = {
    "invsolve": ("Problems and solving", "The parts of every restoration. Import the package as ``iv``."),
    "invsolve.operators": ("Operators", "What happened to the image: forward models without noise."),
    "invsolve.costs": ("Costs", "Likelihoods of a measurement, and other functions of the image for guidance."),
    "invsolve.priors": ("Priors", "What images look like: exact distributions, networks, and how to load them."),
    "invsolve.priors.guidance.combinations": (
        "Guided priors",
        "Combinations of priors: classifier-free guidance and related methods.",
    ),
    "invsolve.priors.guidance.weights": ("Guidance weights", "How strong classifier-free guidance is over time."),
    "invsolve.solvers": ("Solvers", "Methods that sample or optimise. See also [which solver when](../concepts.md)."),
    "invsolve.metrics": ("Metrics", "Image quality and calibration, each number with its implementation."),
    "invsolve.diagnostics": ("Diagnostics", "Checks of whether a solver's results can be trusted."),
    "invsolve.testing": ("Testing your parts", "Conformance checks for operators, priors, costs and solvers."),
    "invsolve.io": ("Files", "Reading and writing images with their metadata."),
    "invsolve.core.schedule": ("Noise schedules", "Signal and noise over time, and the steps between times."),
    "invsolve.core.settings": (
        "Settings",
        "Annotations for the valid values of a setting, checked when an object is created.",
    ),
    "invsolve.core.registry": ("Registries", "Names of parts, including those of installed packages."),
    "invsolve.tasks.base": ("Tasks", "The base class for tasks of `invsolve restore --task`: subclass it to add one."),
}
"""Pages in order: a title and a line about each module."""


def documented() -> dict[str, list[str]]:
    """The names on each page: those of the module's `__all__` that are not on an earlier page."""
    seen: set[int] = set()
    pages: dict[str, list[str]] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        pages[name] = []
        for attribute in sorted(module.__all__, key=lambda word: (word.upper() == word, word.lower())):
            value = getattr(module, attribute)
            if inspect.ismodule(value) or (callable(value) and id(value) in seen):
                continue
            seen.add(id(value))
            pages[name].append(attribute)
    return pages


def page(module: str, names: list[str]) -> str:
    """The text of a page."""
    title, line = MODULES[module]
    home = importlib.import_module(module)
    parts = [f"# {title}\n", f"`{module}`: {line}\n"]
    for name in names:
        value = getattr(home, name)
        if inspect.isclass(value):
            directive, options = "autoclass", ["   :members:", "   :show-inheritance:"]
        elif inspect.isroutine(value):
            directive, options = "autofunction", []
        else:
            directive, options = "autodata", ["   :no-value:"]
        body = "\n".join([f".. {directive}:: {module}.{name}", *options])
        parts.append(f"## {name}\n\n```{{eval-rst}}\n{body}\n```\n")
    return "\n".join(parts)


def file_of(module: str) -> str:
    """The file of a module's page."""
    return f"{module.removeprefix('invsolve.').replace('.', '-') if module != 'invsolve' else 'core'}.md"


def index() -> str:
    """The page that lists the others."""
    rows = [f"| [{title}]({file_of(name)}) | `{name}` | {line} |" for name, (title, line) in MODULES.items()]
    toc = "\n".join(file_of(name) for name in MODULES)
    head = "# API reference\n\nGenerated from the docstrings. Every public object is listed once.\n\n"
    table = "| | module | |\n|---|---|---|\n" + "\n".join(rows)
    return f"{head}{table}\n\n```{{toctree}}\n:hidden:\n\n{toc}\n```\n"


def written() -> dict[str, str]:
    """Every file of the reference and its text."""
    return {"index.md": index()} | {file_of(name): page(name, names) for name, names in documented().items()}


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for name, text in written().items():
        (PAGES / name).write_text(text)
