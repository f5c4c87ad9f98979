"""Upload bundles of results to a data set on the Hugging Face hub."""

from __future__ import annotations

import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from invsolve.bench.checking import check_bundle
from invsolve.core.boundary import parse_json
from invsolve.core.checks import InputError
from invsolve.priors.loading.hub import sha256_of
from invsolve.priors.loading.sharing import upload

__all__ = ["push_bundle"]

CARD = """---
tags: [invsolve, benchmark, inverse-problems, image-restoration]
configs:
- config_name: default
  data_files: "*/*/rows.csv"
---

# {title}

Results of `invsolve bench`, one folder for each bundle: `SUITE/DIGEST/`.

| file | what it is |
|---|---|
| `bundle.zip` | what `invsolve bench submit` packed: index, rows, tables, suite and the digests of all outputs |
| `rows.csv` | one row for each image, task, solver and seed, with its scores, calls and seconds |
| `tables.md` | the tables |
| `suite.toml` | the suite: `invsolve bench run suite.toml` runs it again |

    invsolve bench check bundle.zip

tells whether the parts of a bundle fit each other.
"""


def push_bundle(bundle: Path, name: str, *, private: bool = False, api: Any = None) -> str:
    """Add a bundle to a data set on the hub, with the card of the data set.

    Args:
        bundle: a file written by `submit`; it is checked first.
        name: "organisation/name" of the data set; created if it does not exist.
        private: whether a new data set is visible only to its organisation.
        api: an object to use instead of `huggingface_hub.HfApi`.

    Returns:
        The address of the commit.

    Raises:
        InputError: if the parts of the bundle are inconsistent, the name is not valid on the hub, or the hub refuses.
    """
    if name.count("/") != 1 or not all(name.split("/")):
        raise InputError(f"a data set must be named organisation/name, got {name!r}")
    if wrong := check_bundle(bundle):
        raise InputError(f"{bundle} is not pushed: {wrong[0]}")
    with TemporaryDirectory() as folder, zipfile.ZipFile(bundle) as archive:
        suite = str(parse_json(archive.read("about.json"), "about.json")["suite"])
        place = Path(suite) / sha256_of(bundle)[:16]
        files = {str(place / part): archive.read(part) for part in ("rows.csv", "tables.md", "suite.toml")}
        files |= {str(place / "bundle.zip"): bundle.read_bytes()}
        files |= {"README.md": CARD.format(title=name.split("/")[1]).encode()}
        for path, content in files.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        message = f"Results of the suite {suite}"
        return upload(Path(folder), name, [*files], message, kind="dataset", private=private, api=api)
