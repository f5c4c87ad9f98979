"""Training with labels: small images in, a labelled denoiser and a classifier of noisy images out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from invsolve.commands.cli import main
from invsolve.priors.networks.classifier import ClassifierConfig, NoisyClassifier, load_classifier
from invsolve.priors.networks.unet import LabelledDenoiser, load_denoiser
from invsolve.train.classifier import classifier_loss
from invsolve.train.labelled import read_labelled
from invsolve.train.settings import ClassifierTraining


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark images with a little noise, in two classes."""
    root, rng = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0)
    for name, level in (("2", 60), ("10", 200)):
        (root / name).mkdir()
        for i in range(12):
            grey = np.clip(level + rng.normal(0, 8, (16, 16)), 0, 255).astype(np.uint8)
            Image.fromarray(grey).save(root / name / f"{i}.png")
    return root


def test_labels_follow_the_names_as_numbers_and_splits_keep_every_class(folder: Path) -> None:
    data = read_labelled(folder)
    assert data.classes == ("2", "10")
    assert data.images.shape == (24, 1, 16, 16)
    assert data.images[data.labels == 0].mean() < 0 < data.images[data.labels == 1].mean()
    train, held = data.split(0.25)
    assert torch.bincount(held.labels).tolist() == [3, 3]
    assert torch.bincount(train.labels).tolist() == [9, 9]
    x, y = data.draw(400, 16, np.random.default_rng(1))
    kept = y < 2
    assert (x.mean((1, 2, 3))[kept] > 0).equal(y[kept] == 1)
    assert 0.08 < float((~kept).double().mean()) < 0.24  # 0.15 dropped: four standard errors of 400 draws


def test_a_labelled_denoiser_learns_what_the_label_tells(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "prior.safetensors"
    words = ["--channels", "8", "--blocks", "1", "--batch", "16", "--crop", "16", "--precision", "fp32"]
    words += ["--steps", "40", "--workers", "1", "--learning-rate", "0.02", "--optimizer", "adamw"]
    assert main(["train", "denoiser", "--labels", "--images", str(folder), "--out", str(out), *words]) == 0
    denoiser = load_denoiser(out, build=LabelledDenoiser)
    noise = 20 * torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    dark, bright = (denoiser(noise, torch.tensor(20.0), y).mean() for y in (0, 1))
    assert bright - dark > 0.3


def test_a_classifier_learns_and_knows_less_where_there_is_more_noise(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "classifier.safetensors"
    words = ["--steps", "60", "--batch", "32", "--width", "8"]
    assert main(["train", "classifier", "--images", str(folder), "--out", str(out), *words]) == 0
    classifier, data = load_classifier(out), read_labelled(folder)
    sure = classifier(data.images, torch.tensor(0.05)).softmax(1)
    assert (sure.argmax(1) == data.labels).all()
    noise = 30 * torch.randn(data.images.shape, generator=torch.Generator().manual_seed(0))
    unsure = classifier(data.images + noise, torch.tensor(30.0)).softmax(1)
    assert sure.max(1).values.mean() > unsure.max(1).values.mean() + 0.1
    again = classifier.of_images((data.images + 1) / 2, torch.tensor(0.025))
    assert torch.allclose(again.softmax(1), sure, atol=1e-5)


def test_the_penalty_and_score_matching_are_their_formulas() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = NoisyClassifier(ClassifierConfig(3, width=4))
    g = torch.Generator().manual_seed(1)
    x0, noise = torch.randn(2, 5, 1, 16, 16, generator=g)
    labels, sigma = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0.1, 0.5, 1.0, 2.0, 4.0])
    settings = {"images": Path("a"), "out": Path("b"), "prior": Path("c")}

    class Zero(torch.nn.Module):
        def forward(self, x, sigma):
            return torch.zeros_like(x)

    def loss(penalty: float, matching: float) -> float:
        config = ClassifierTraining(**settings, gradient_penalty=penalty, score_matching=matching)  # pyright: ignore
        return classifier_loss(classifier, x0, labels, sigma, noise, config, Zero())[0].item()  # pyright: ignore

    level = sigma.view(-1, 1, 1, 1)
    x = (x0 + level * noise).requires_grad_()
    log = classifier(x, sigma).log_softmax(1)
    (slope,) = torch.autograd.grad(log[range(5), labels].sum(), x)
    penalty = (level * slope).square().flatten(1).sum(1).mean().item()
    matching = (level * (slope - x / level**2) + noise).square().flatten(1).sum(1).mean().item()
    plain = loss(0.0, 0.0)
    assert plain == pytest.approx(-log[range(5), labels].mean().item(), rel=1e-5)
    assert loss(0.3, 0.0) - plain == pytest.approx(0.3 * penalty, rel=1e-3)
    assert loss(0.0, 0.5) - plain == pytest.approx(0.5 * matching, rel=1e-3)


@pytest.mark.parametrize(
    "words",
    [
        ["denoiser", "--labels", "--steps", "1"],
        ["classifier"],
        ["classifier", "--gradient-penalty", "-1"],
        ["classifier", "--score-matching", "0.5"],
    ],
)
def test_unusable_folders_and_settings_end_with_one_line(tmp_path: Path, capsys, words: list[str]) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "alone.png")
    assert main(["train", *words, "--images", str(tmp_path), "--out", str(tmp_path / "o.safetensors")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "o.safetensors").exists()


def test_images_of_two_sizes_are_refused(folder: Path, tmp_path: Path) -> None:
    for name, side in (("a", 16), ("b", 8)):
        (tmp_path / name).mkdir()
        Image.new("L", (side, side)).save(tmp_path / name / "x.png")
    with pytest.raises(ValueError, match="one size"):
        read_labelled(tmp_path)
