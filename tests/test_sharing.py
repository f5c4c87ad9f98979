"""Priors on the hub: what is written is read again, and what is uploaded is that and nothing else."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from adm_files import narrow, random_state
from benchtoy import toy

from invsolve import priors
from invsolve.bench.checking import check_bundle
from invsolve.bench.hub import push_bundle
from invsolve.bench.runner import run
from invsolve.bench.scoring import score
from invsolve.bench.store import Store
from invsolve.commands.cli import main
from invsolve.core.checks import InputError
from invsolve.priors.loading.sharing import Description, push, write_repository

DIGITS = Path(str(files("invsolve.priors") / "weights" / "digits.safetensors"))
TOLD = Description("handwritten digits", "MNIST digits, CC BY-SA 3.0", "apache-2.0")


class Hub:
    """Takes uploads into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, []

    def create_repo(self, name, private, exist_ok, repo_type):
        assert exist_ok
        self.made.append((repo_type, name, private))

    def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message, repo_type):
        assert (repo_type, repo_id) in [made[:2] for made in self.made]
        for pattern in allow_patterns:
            (self.folder / repo_id / pattern).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder_path) / pattern, self.folder / repo_id / pattern)
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


def test_a_pushed_prior_is_the_same_when_it_is_loaded(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    write_repository(DIGITS, tmp_path / "made", "us/digits", TOLD)
    (tmp_path / "made" / "secret.txt").write_text("not to be uploaded")
    assert push(tmp_path / "made", "us/digits", private=True, api=hub) == "https://hub/us/digits/commit/1"
    assert hub.made == [("model", "us/digits", True)]
    assert {path.name for path in (hub.folder / "us/digits").iterdir()} == {"invsolve.safetensors", "README.md"}
    monkeypatch.setattr(
        "invsolve.priors.loading.repository.fetch_repository", lambda name, **options: hub.folder / name, raising=True
    )
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    loaded = priors.load("hf:us/digits").given(label=3)
    assert torch.equal(loaded.denoise(x, 0.5), priors.load(DIGITS).given(label=3).denoise(x, 0.5))


def test_the_card_says_what_the_file_does_not(tmp_path):
    _, card = write_repository(DIGITS, tmp_path, "us/digits", TOLD)
    text = card.read_text()
    assert text.startswith("---\nlibrary_name: invsolve\nlicense: apache-2.0\n")
    for words in ("handwritten digits", "MNIST digits, CC BY-SA 3.0", "| sizes | any |", 'load("hf:us/digits")'):
        assert words in text


def test_a_checkpoint_of_guided_diffusion_becomes_safetensors(tmp_path):
    torch.save(random_state(narrow("ffhq")), tmp_path / "model.pt")
    made, _ = write_repository(tmp_path / "model.pt", tmp_path / "made", "us/faces", TOLD)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    options = {"head_channels": 16}
    first = priors.load(tmp_path / "model.pt", **options).module
    second = priors.load(made.parent, **options).module
    assert torch.allclose(first(x, torch.tensor([5])), second(x, torch.tensor([5])), atol=1e-5)


def test_the_command_writes_a_folder_and_uploads_nothing(tmp_path, capsys):
    told = ["--summary", "digits", "--data", "MNIST", "--licence", "mit", "--to", str(tmp_path / "made")]
    assert main(["priors", "push", str(DIGITS), "us/digits", *told]) == 0
    assert "invsolve.safetensors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "name", "told", "words"),
    [
        (DIGITS, "digits", {}, "organisation/name"),
        (DIGITS.parent, "us/digits", {}, "is not a file"),
        (DIGITS, "us/digits", {"data": ""}, "needs its data"),
        (DIGITS, "us/digits", {"summary": "a\nb"}, "needs its summary in one line"),
    ],
)
def test_what_cannot_be_pushed_is_refused(tmp_path, source, name, told, words):
    with pytest.raises(InputError, match=words):
        write_repository(source, tmp_path / "made", name, Description(**{**vars(TOLD), **told}))
    assert not (tmp_path / "made").exists()


def test_a_server_that_refuses_is_one_sentence(tmp_path):
    def refuse(*words, **options):
        raise ValueError("not your organisation\nmore")

    with pytest.raises(InputError, match=r"us/digits cannot be pushed: not your organisation$"):
        push(tmp_path, "us/digits", api=SimpleNamespace(create_repo=refuse))


def test_a_bundle_is_added_to_a_data_set_and_checks_there(tmp_path, monkeypatch, capsys):
    with Store.writing(tmp_path / "store") as store:
        run(toy(tmp_path), store)
        score(store)
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda endpoint: hub)
    words = ["bench", "submit", "toy.toml", "--store", str(tmp_path / "store"), "--hub", "us/results"]
    for _ in range(2):  # the same bundle goes to the same place
        assert main([*words, "-o", str(tmp_path / "toy.zip"), "--private"]) == 0
    assert "https://hub/us/results/commit/1" in capsys.readouterr().out
    assert hub.made == 2 * [("dataset", "us/results", True)]
    (made,) = (hub.folder / "us/results" / "toy").iterdir()
    assert {path.name for path in made.iterdir()} == {"bundle.zip", "rows.csv", "tables.md", "suite.toml"}
    assert check_bundle(made / "bundle.zip") == []
    assert "superres2,baseline" in (made / "rows.csv").read_text()
    assert 'data_files: "*/*/rows.csv"' in (hub.folder / "us/results" / "README.md").read_text()
    with pytest.raises(InputError, match="organisation/name"):
        push_bundle(tmp_path / "toy.zip", "results", api=hub)
    (tmp_path / "toy.zip").write_bytes(b"no bundle")
    with pytest.raises(InputError):
        push_bundle(tmp_path / "toy.zip", "us/results", api=hub)
