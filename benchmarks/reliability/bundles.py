"""Forged bundles: one part is changed, and the manifest is adapted."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

__all__ = ["FORGED", "forged"]


def forged(bundle: Path, out: Path, change) -> Path:
    """A copy of the bundle with changed files and a matching manifest."""
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    parts = {name: json.loads(files[name]) for name in ("index.json", "about.json")}
    change(files, parts)
    for name, before in {name: json.loads(files[name]) for name in parts}.items():
        if parts[name] != before:
            files[name] = json.dumps(parts[name], indent=1).encode()
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != "manifest.json"}
    files["manifest.json"] = json.dumps(sums, indent=1).encode()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out


def index_of(change):
    return lambda files, parts: change(parts["index.json"])


def text_of(name: str, old: str, new: str):
    def change(files, parts):
        assert old.encode() in files[name], name
        files[name] = files[name].replace(old.encode(), new.encode(), 1)

    return change


def content_of(part: str, key: str, value):
    def change(index):
        hash, content = next((h, c) for h, c in index["contents"].items() if "ddnm" in c)
        spec = json.loads(content)
        spec[part] = {**spec[part], key: value} if part != key else value
        index["contents"][hash] = json.dumps(spec, sort_keys=True, separators=(",", ":"))

    return index_of(change)


FORGED = {
    "a better score": index_of(lambda index: index["scores"][0].__setitem__(2, 99.0)),
    "a better score in the rows": text_of("rows.csv", ",ok,", ",OK,"),
    "a better table": text_of("tables.md", "| 1 | ", "| 2 | "),
    "a row less": index_of(lambda index: index["units"].pop()),
    "a row twice": index_of(lambda index: index["units"].append(index["units"][0])),
    "another item": index_of(lambda index: index["units"][0].__setitem__(2, "draw 7")),
    "another solver": index_of(lambda index: index["units"][0].__setitem__(4, "ddnm")),
    "another task": index_of(lambda index: index["units"][0].__setitem__(3, "inpaint")),
    "another seed": index_of(lambda index: index["units"][0].__setitem__(5, 3)),
    "another measurement": index_of(lambda index: index["units"][0].__setitem__(1, "0" * 32)),
    "another setting": content_of("solver", "settings", {"n_steps": 100}),
    "more samples": content_of("solver", "samples", 8),
    "less noise": content_of("task", "noise", 0.01),
    "another prior": content_of("prior", "digest", "0" * 32),
    "a failure made whole": index_of(lambda i: next(iter(i["outcomes"].values())).update(status="great")),
    "no digest": index_of(lambda i: next(iter(i["outcomes"].values())).update(digest="")),
    "faster": index_of(lambda i: next(iter(i["outcomes"].values())).update(seconds=0.001)),
    "an environment less": index_of(lambda index: index["environments"].clear()),
    "another environment": index_of(lambda i: i["environments"].update(dict.fromkeys(i["environments"], "{}"))),
    "an outcome more": index_of(lambda i: i["outcomes"].update({"0" * 32: next(iter(i["outcomes"].values()))})),
    "a score of nothing": index_of(lambda index: index["scores"].append(["0" * 32, "psnr", 40.0, None, "x"])),
    "a score less": index_of(lambda index: index["scores"].pop()),
    "fewer images described": lambda files, parts: parts["about.json"]["description"].update(items=2),
    "another solver described": lambda f, p: p["about.json"]["description"]["solvers"][0].update(name="x"),
    "another task described": lambda f, p: p["about.json"]["description"]["tasks"].pop(),
    "another metric described": lambda f, p: p["about.json"]["description"].update(metrics=["ssim"]),
    "another noise in the suite": text_of("suite.toml", "noise = 0.05", "noise = 0.04"),
    "another setting in the suite": text_of("suite.toml", '"n_steps" = 5', '"n_steps" = 50'),
    "a solver more in the suite": text_of("suite.toml", "[[solvers]]", '[[solvers]]\nname = "ddrm"\n[[solvers]]'),
    "another prior in the suite": text_of("suite.toml", '"side" = 8', '"side" = 9'),
    "another number of seeds": text_of("suite.toml", "samples = 4", "samples = 4\nseeds = [0, 1]"),
    "no suite": text_of("suite.toml", "[data]", "]["),
}
