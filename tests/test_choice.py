"""Solvers and settings by prior, task and noise: the published ones where they belong, no others without a word."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import invsolve as iv
from invsolve import priors, solvers
from invsolve.core.presets import published
from invsolve.core.traits import Traits
from invsolve.operators import gaussian_kernel
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.loading.cards import card, cards
from invsolve.priors.traits import traits_of
from invsolve.restoration import restore
from invsolve.restoration.choice import chosen
from invsolve.restoration.options import Options
from invsolve.restoration.prepare import prepare

NATURAL = Traits("local", "natural", own=True)
FFHQ, IMAGENET = (card(name).traits for name in ("ffhq256", "imagenet256"))


class Pixels(priors.Prior):
    """Exact denoiser of images of 16 x 16 whose pixels are independent, N(0, 0.3)."""

    schedule = iv.DDPMSchedule()
    shape = (3, 16, 16)

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        alpha, sigma = self.schedule(t)
        return alpha * 0.3 / (alpha**2 * 0.3 + sigma**2) * x_t


def as_prior(traits: Traits | None, side: int = 16) -> Pixels:
    prior = Pixels()
    prior.traits, prior.shape = traits, (3, side, side)
    return prior


def image(side: int) -> Tensor:
    return 0.3 + 0.4 * torch.rand(3, side, side, generator=torch.Generator().manual_seed(0))


def settings(solver: Any) -> dict[str, Any]:
    return {name: getattr(solver, name) for name in solver.__dataclass_fields__}


@pytest.fixture
def bkse(monkeypatch, tmp_path) -> Path:
    """Published priors are loaded as exact ones of some size, and the network of BKSE as a shift; its file."""
    from invsolve.tasks import nonlinear_deblur

    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.share = nn.Parameter(torch.tensor([0.1]))

        def forward(self, x: Tensor, code: Tensor) -> Tensor:
            return x + self.share * (x.roll(1, -1) - x)

    def load(name: str, **options: Any) -> Pixels:
        return as_prior(card(name).traits, options.get("size", 16))

    monkeypatch.setattr(priors, "load", load)
    monkeypatch.setattr(nonlinear_deblur, "_network", lambda path: Shift())
    (file := tmp_path / "bkse.pth").write_bytes(b"weights")
    return file


@pytest.mark.parametrize(
    ("preset", "task", "options"),
    [
        ("ffhq256/superres4", "superres", {"factor": 4}),
        ("ffhq256/inpaint", "inpaint", {"mask": torch.eye(16)}),
        ("ffhq256/deblur-nonlinear", "nonlinear-deblur", {}),
        ("ffhq256/blind-deblur-fast", "blind-deblur", {"quality": "fast"}),
        ("ffhq256/blind-deblur", "blind-deblur", {"quality": "best"}),
        ("imagenet256/superres4", "superres", {"factor": 4}),
        ("imagenet256/inpaint", "inpaint", {"mask": torch.eye(16)}),
        ("imagenet256/deblur-nonlinear", "nonlinear-deblur", {}),
    ],
)
def test_published_settings_are_what_restore_uses_and_records(bkse, preset, task, options):
    """All of them; 3000 and 6000 calls are too many for a test, blind deblurring makes two of its steps."""
    family, side, fewer = preset.split("/")[0], 16, {}
    if task == "nonlinear-deblur":
        side, options = 128, {"operator_weights": bkse}
    elif task == "blind-deblur":
        side, options, fewer = 48, {**options, "blur_sigma": 1.0, "kernel_size": 9}, {"n_steps": 2}
    options = {**options, "simulate": True, "noise": 0.005, "prior_options": {"size": side}}
    done = restore(image(side), task, prior=family, settings=fewer, **options)
    told = done.record["solver"]
    assert told["name"] == "ndtm"
    assert (told["chosen"]["source"], told["chosen"]["own"]) == (preset, True)
    assert {**told["settings"]} == settings(solvers.NDTM.preset(preset)) | fewer
    assert done.record["estimate"] == "one posterior sample"
    assert done.record["prior"]["traits"]["family"] == family


@pytest.mark.parametrize(
    ("solver", "fewer", "estimate"),
    [
        ("dps", {"n_steps": 2}, "one posterior sample"),
        ("dmplug", {"n_iterations": 2}, "point estimate"),
        ("red-diff", {"n_steps": 2}, "point estimate"),
    ],
)
def test_the_record_says_whether_the_image_is_a_sample(solver, fewer, estimate):
    done = restore(image(16), "denoise", prior=as_prior(FFHQ, 16), noise=0.05, solver=solver, settings=fewer)
    assert done.record["estimate"] == estimate


def test_an_unknown_blur_is_found_with_the_image_under_a_prior_of_whole_images():
    """And by edges, before the restoration, under a local one."""
    for quality, preset in (("fast", "blind-deblur-fast"), ("best", "blind-deblur")):
        job = prepare(image(64), Options.of("blind-deblur", prior="ffhq256", quality=quality, noise=0.005))
        assert job.solver == solvers.NDTM.preset(f"ffhq256/{preset}")
        assert job.task.unknowns is not None
    for options in ({"prior": "natural"}, {"prior": "ffhq256", "solver": "pnp-hqs"}):
        assert prepare(image(64), Options.of("blind-deblur", noise=0.01, **options)).task.unknowns is None


def test_a_blur_is_found_with_the_image_and_written_down():
    y = torch.zeros(3, 48, 48)
    y[:, 20:28, 20:28] = 0.7
    blur: dict[str, Any] = {"simulate": True, "blur_sigma": 1.0, "kernel_size": 9, "noise": 0.005, "quality": "fast"}
    done = restore(y, "blind-deblur", prior=as_prior(FFHQ, 48), settings={"n_steps": 20, "n_inner": 2}, **blur)
    assert done.kernel is not None
    assert done.kernel.shape == (9, 9)
    assert float(done.kernel.sum()) == pytest.approx(1.0, abs=1e-5)
    assert done.record["task"]["joint"]
    assert {"restored", "blurred"} <= done.record["scores"].keys()


def test_natural_keeps_its_own_settings():
    for section in ("denoise", "superres2", "superres4", "inpaint", "deblur"):
        choice = chosen(section, NATURAL)
        assert (choice.solver.name, choice.source, choice.own) == ("pnp-hqs", f"natural/{section}", True)
    assert chosen("superres4", NATURAL, sampling=True).solver.name == "mmps"


@pytest.mark.parametrize(
    ("traits", "section", "solver", "source", "words"),
    [
        (Traits("global", "ffhq256"), "superres4", None, "ffhq256/superres4", "none are known for this prior"),
        (FFHQ, "denoise", None, "ffhq256/superres4", "none are known for the task denoise"),
        (Traits("global", "imagenet256"), "deblur", None, "imagenet256/superres4", "this prior and the task deblur"),
        (FFHQ, "superres4", "pnp-hqs", "defaults", "pnp-hqs with its own defaults: no settings are known"),
        (IMAGENET, "blind-deblur", None, "ffhq256/blind-deblur-fast", "none are known for this prior"),
        (Traits("local", "natural"), "denoise", None, "natural/denoise", "this prior has none of its own"),
        (FFHQ, "superres4", "ddrm", "ffhq256/superres4", None),
        (FFHQ, "superres4", "dps", "ffhq256/superres4", None),
    ],
)
def test_settings_of_another_prior_or_task_are_never_used_without_a_word(traits, section, solver, source, words):
    choice = chosen(section, traits, solver=solver)
    assert choice.source == source
    assert choice.own == (words is None)
    if words is not None:
        assert words in choice.reason
        assert "invsolve tune" in choice.reason


def test_the_word_is_said_aloud_and_recorded(caplog):
    with caplog.at_level(logging.WARNING):
        done = restore(image(16), "denoise", noise=0.005, prior=Pixels(), settings={"n_steps": 2})
    assert "none are known for this prior and the task denoise" in caplog.text
    assert done.record["solver"]["chosen"]["own"] is False


def test_more_noise_than_published_ends_updates_when_the_data_are_explained():
    """Published for 0.005; at 0.05 the same settings would put the noise into the image."""
    own = solvers.NDTM.preset("ffhq256/inpaint")
    assert chosen("inpaint", FFHQ, noise=0.009).solver == own
    choice = chosen("inpaint", FFHQ, noise=0.05)
    assert isinstance(choice.solver, solvers.NDTM)
    assert settings(choice.solver) == {**settings(own), "stop": 1.0}
    assert "reaches the noise level 0.05" in choice.reason
    assert getattr(chosen("inpaint", FFHQ, noise=0.05, changes={"stop": None}).solver, "stop") is None  # noqa: B009


def test_the_noise_of_a_grey_image_is_that_of_its_one_channel_under_a_grey_prior():
    """In three equal channels it would count sqrt(3) times as much."""
    prior = as_prior(Traits("global", "ffhq256", own=True, channels=1))
    prior.shape = (1, 16, 16)
    for noise, stop in ((0.0099, None), (0.0101, 1.0)):
        done = restore(image(16)[:1], "inpaint", mask=torch.eye(16), noise=noise, prior=prior, settings={"n_steps": 2})
        assert done.record["solver"]["settings"]["stop"] == stop
        assert ("reaches the noise level 0.0101" in done.record["solver"]["chosen"]["reason"]) == (stop is not None)
    done = restore(image(16)[:1], "inpaint", mask=torch.eye(16), noise=0.0099, prior=as_prior(FFHQ))
    assert "reaches the noise level 0.0171" in done.record["solver"]["chosen"]["reason"]


def test_presets_by_name_and_from_files_are_used_as_they_are(tmp_path):
    choice = chosen("superres4", NATURAL, preset="imagenet256/inpaint")
    assert choice.solver == solvers.NDTM.preset("imagenet256/inpaint")
    choice = chosen("superres4", NATURAL, solver="dps", preset="ffhq256/inpaint", changes={"zeta": 0.5})
    assert choice.solver == solvers.DPS.preset("ffhq256/inpaint", zeta=0.5)
    table = tmp_path / "mine.toml"
    table.write_text(
        '[denoise]\npoint = "red-diff"\nsamples = "dps"\nred-diff = { n_steps = 7 }\ndps = { n_steps = 9 }\n'
    )
    for sampling, kind in ((False, solvers.REDdiff(n_steps=7)), (True, solvers.DPS(n_steps=9))):
        choice = chosen("denoise", FFHQ, presets=table, sampling=sampling)
        assert choice.solver == kind
        assert str(table) in choice.source
    calls: tuple[tuple[dict[str, Any], str], ...] = (
        ({"preset": "ffhq256/superes4"}, "ffhq256/superres4"),
        ({"presets": table, "solver": "ndtm"}, "no settings of ndtm for denoise"),
        ({"presets": tmp_path / "none.toml"}, "none.toml"),
        ({"presets": table, "preset": "ffhq256/superres4"}, "give one of them"),
    )
    for call, words in calls:
        with pytest.raises(iv.InputError, match=words):
            chosen("denoise", FFHQ, **call)
    with pytest.raises(iv.InputError, match="no settings for inpaint"):
        chosen("inpaint", FFHQ, presets=table)


def test_networks_of_few_steps_and_qualities_without_settings_are_refused_with_what_to_do():
    few = Traits("global", "imagenet256", few_steps=True)
    with pytest.raises(iv.InputError, match="invsolve tune"):
        chosen("superres4", few)
    assert chosen("superres4", few, solver="ndtm", changes={"n_steps": 4}).solver.name == "ndtm"
    with pytest.raises(iv.InputError, match="quality 'fast'"):
        chosen("superres4", FFHQ, quality="fast")


def test_cards_say_what_their_priors_are_good_at_and_priors_that_are_loaded_agree():
    assert all(each.traits.channels in (1, 3) for each in cards().values())
    for name in ("natural", "natural-deep", "digits"):
        found, told = traits_of(priors.load(name)), card(name).traits
        assert (found.scope, found.channels, found.labelled) == (told.scope, told.channels, told.labelled)


def test_traits_are_read_off_priors_without_cards():
    class Zero(nn.Module):
        def forward(self, x: Tensor, c: Tensor, label: Any = None) -> Tensor:
            return torch.zeros_like(x)

    whole = traits_of(priors.NetworkPrior(Zero(), shape=(1, 32, 32)))
    assert whole == Traits("global", "ffhq256", size=(32, 32), channels=1)
    assert traits_of(priors.NetworkPrior(Zero())) == Traits("local", "natural")
    labelled = traits_of(ConditionalPrior(Zero(), 10, 10, shape=(3, 64, 64)))
    assert (labelled.family, labelled.labelled) == ("imagenet256", True)
    assert traits_of(priors.NetworkPrior(Zero(), "velocity", iv.FlowSchedule(), shape=(3, 8, 8))).flow


def test_a_class_is_given_to_priors_that_know_classes_and_asked_for_where_they_need_one():
    y, common = image(16)[:1], dict[str, Any](noise=0.1, solver=solvers.NDTM(n_steps=2))
    three = restore(y, "denoise", prior="digits", label=3, **common)
    eight = restore(y, "denoise", prior="digits", label=8, **common)
    assert three.record["prior"]["label"] == 3
    assert not torch.equal(three.image.pixels, eight.image.pixels)
    own = restore(y, "denoise", prior=priors.load("digits").given(label=3), **common)
    assert torch.equal(own.image.pixels, three.image.pixels)
    with pytest.raises(iv.CapabilityError, match="label"):
        restore(image(16), "denoise", prior=Pixels(), label=1, **common)

    class Zero(nn.Module):
        def forward(self, x: Tensor, c: Tensor, label: Any = None) -> Tensor:
            return torch.zeros_like(x)

    with pytest.raises(iv.InputError, match="needs a class: give --label, 0 to 9"):
        restore(y, "denoise", prior=ConditionalPrior(Zero(), 10, shape=(1, 16, 16)), **common)


def test_options_of_a_prior_reach_its_loader():
    y, common = image(16)[:1], dict[str, Any](noise=0.1, solver=solvers.NDTM(n_steps=2), prior="digits")
    done = restore(y, "denoise", prior_options={"schedule": "linear"}, **common)
    assert "DDPMSchedule" in done.record["prior"]["description"]
    assert done.record["prior"]["options"] == {"schedule": "linear"}
    with pytest.raises(iv.InputError, match="sizes"):
        restore(y, "denoise", prior_options={"sizes": 3}, **common)
    with pytest.raises(iv.InputError, match="when you create the Prior object"):
        Options(prior=Pixels(), prior_options={"size": 3})


def test_every_published_row_can_be_made():
    for name in ("ndtm", "dps", "red-diff", "ddrm", "c-pigdm", "dmplug", "diffpir", "pnp-dm"):
        for key in published(name):
            assert chosen(key.split("/")[1], FFHQ, solver=name, preset=key).solver.name == name


def test_samplers_follow_the_kind_of_mask_and_denoising_begins_at_its_own_noise():
    holes, between, scattered = (
        chosen("inpaint", NATURAL, sampling=True, conditions={"scatter": scatter}).solver.noise_ratios
        for scatter in (0.2, (0.3 * 0.5) ** 0.5, 0.8)
    )
    assert holes == (3.0, 0.01)
    assert between == (pytest.approx(3**0.5, rel=2e-3), 0.01)
    assert scattered == (1.0, 0.01)
    assert chosen("denoise", NATURAL, sampling=True).solver.start == "measurement"


def test_settings_of_deblurring_follow_the_form_of_the_blur():
    """Few calls with momentum for Gaussians; it leaves stripes after other blurs, and where the blur is estimated."""
    line = torch.full((1, 9), 1 / 9)
    tasks: list[tuple[str, dict[str, Any]]] = [
        ("deblur", {"blur_sigma": 2.0}),
        ("deblur", {"kernel": gaussian_kernel(2.0).numpy()}),
        ("deblur", {"kernel": line.numpy()}),
        ("blind-deblur", {"kernel_size": 9}),
    ]
    made = [prepare(image(64), Options.of(task, noise=0.01, **told)).solver for task, told in tasks]
    found = [(solver.n_steps, solver.momentum) for solver in made if isinstance(solver, solvers.PnPHQS)]
    assert found == [(12, 0.6), (12, 0.6), (16, 0.01), (16, 0.01)]
