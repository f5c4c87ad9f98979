"""The documentation site: `make docs` writes docs/_build/html."""

from __future__ import annotations

import re
import shutil
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from docstrings import to_rst  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

import invsolve  # noqa: E402

project, author, copyright = "invsolve", "The invsolve developers", "The invsolve developers"
release = version = invsolve.__version__
REPOSITORY = "https://github.com/invsolve/invsolve"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples", "*.py"]
suppress_warnings = ["config.cache", "ref.python"]
nitpicky = False
default_role = "code"

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_inherit_docstrings = False

html_theme = "furo"
html_title = f"invsolve {release.split('.dev')[0]}" + (" (development)" if ".dev" in release else "")
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "source_repository": f"{REPOSITORY}/",
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_exclude = ".linenos, .gp, .go"

warnings.filterwarnings("ignore", message=".*non-interactive.*")
sphinx_gallery_conf = {
    "examples_dirs": ["examples"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "show_memory": False,
    "capture_repr": (),
    "min_reported_time": 0,
    "plot_gallery": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "first_notebook_cell": "%matplotlib inline\n%pip install -q invsolve matplotlib scikit-image",
    "matplotlib_animations": False,
}

NESTED = r"(?:[^\[\]]|\[(?:[^\[\]]|\[[^\[\]]*\])*\])+?"
RANGED = re.compile(rf"Annotated\[({NESTED}), [~\w.]*Range\([^()]*\)\]")
COLAB = "https://colab.research.google.com/github/invsolve/invsolve/blob/gh-pages/notebooks"


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Change links that leave docs/ into links to the repository, and add a link to Colab to each example."""
    if name.startswith("gallery/plot_"):
        link = f"`Open it in Colab <{COLAB}/{name.removeprefix('gallery/')}.ipynb>`_"
        source[0] = re.sub(r"(^.. GENERATED FROM PYTHON SOURCE)", rf"{link}\n\n\1", source[0], count=1, flags=re.M)
        return
    source[0] = re.sub(r"(?<!!)(\[[^\]]*\]\()\.\./(?!docs/)([^)]+\))", rf"\1{REPOSITORY}/blob/main/\2", source[0])


def read_docstring(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Convert docstrings, which are plain text with equations, to reStructuredText."""
    lines[:] = to_rst(lines)


def read_signature(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """Show `Annotated[float, Range(low=0, ...)]` as float, because the docstrings contain the ranges of settings."""
    if signature is None:
        return None
    return RANGED.sub(r"\1", signature), returned


def copy_notebooks(app: Sphinx, error: Exception | None) -> None:
    """Copy the notebooks to the place that the links to Colab expect."""
    if error is None and app.builder.name == "html":
        target = Path(app.outdir) / "notebooks"
        target.mkdir(exist_ok=True)
        for notebook in (HERE / "gallery").glob("plot_*.ipynb"):
            shutil.copy(notebook, target / notebook.name)


def setup(app: Sphinx) -> None:
    """Connect the hooks."""
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", read_docstring, priority=100)
    app.connect("autodoc-process-signature", read_signature)
    app.connect("build-finished", copy_notebooks)
