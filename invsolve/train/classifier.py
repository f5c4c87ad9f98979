"""Train a time-conditional classifier of noisy images with a reliable gradient.

    loss = CE(q(y | x_t), y)
         + w_grad E sigma^2 |grad_x log q(y | x_t)|^2                          gradient penalty
         + w_dlsm E |sigma (grad_x log q(y | x_t) + s(x_t)) + n|^2             denoising likelihood score matching

x_t = x0 + sigma n, log sigma uniform. A small cross-entropy alone does not make the gradient accurate: this requires
smoothness (Banerjee, Sahu, Wu 2026, arXiv 2601.21200). The third term regresses on the guidance itself (Chao et al.
2022, arXiv 2203.14206) and needs a denoiser for the same images.
"""

from __future__ import annotations

import logging
import math
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from invsolve.core.checks import InputError
from invsolve.priors.networks.classifier import ClassifierConfig, NoisyClassifier, save_classifier
from invsolve.priors.networks.unet import Denoiser, LabelledDenoiser, load_denoiser
from invsolve.train.labelled import LabelledSet, read_labelled
from invsolve.train.report import SmoothedLoss
from invsolve.train.settings import ClassifierTraining, check_output

__all__ = ["classifier_loss", "train_classifier"]

logger = logging.getLogger(__name__)


def classifier_loss(
    classifier: NoisyClassifier, x0: Tensor, labels: Tensor, sigma: Tensor, noise: Tensor, config: ClassifierTraining,
    denoiser: Denoiser | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Compute the loss of a batch, and its cross-entropy."""
    level = sigma[:, None, None, None]
    x = (x0 + level * noise).requires_grad_(config.gradient_penalty > 0 or config.score_matching > 0)
    logits = classifier(x, sigma)
    entropy = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
    if not x.requires_grad:
        return entropy, entropy.detach()
    chosen = logits.log_softmax(1).gather(1, labels[:, None]).sum()
    (slope,) = torch.autograd.grad(chosen, x, create_graph=True)
    loss = entropy + config.gradient_penalty * (level * slope).square().flatten(1).sum(1).mean()
    if denoiser is not None and config.score_matching > 0:
        with torch.no_grad():
            score = (denoiser(x.detach(), sigma) - x.detach()) / level.square()
        target = level * (slope + score) + noise
        loss = loss + config.score_matching * target.square().flatten(1).sum(1).mean()
    return loss, entropy.detach()


def train_classifier(config: ClassifierTraining) -> NoisyClassifier:
    """Train, and write the weights at the end of the run.

    Raises:
        InputError: if images are unusable or not square, or `out` exists and `overwrite` is not set.
        InvsolveError: if the loss is no longer finite.
    """
    check_output(config.out, overwrite=config.overwrite)
    train, held = read_labelled(config.images).split(0.1)
    denoiser = None if config.prior is None else load_denoiser(config.prior, build=LabelledDenoiser)
    shape = train.images.shape
    if shape[2] != shape[3]:
        raise InputError(f"a classifier is trained on square images, got {shape[2]} x {shape[3]}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        classifier = NoisyClassifier(ClassifierConfig(len(train.classes), shape[1], shape[2], config.width))
    optimizer = torch.optim.AdamW(classifier.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    began, smoothed = time.monotonic(), SmoothedLoss(0.99)
    for step in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        loss, entropy = classifier_loss(classifier, *_batch(train, config, step), config, denoiser)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
        optimizer.step()
        smoothed.add(float(entropy), step + 1)
        if (step + 1) % 250 == 0 or step + 1 == config.steps:
            logger.info("step %d, %.0f s, cross-entropy %.4f", step + 1, time.monotonic() - began, smoothed.mean)
    accuracy = _accuracy(classifier, held, config)
    logger.info("held-out accuracy by noise level: %s", ", ".join(f"{s:g}: {a:.3f}" for s, a in accuracy.items()))
    save_classifier(classifier, config.out, {"steps": str(config.steps), "seed": str(config.seed)})
    return classifier.eval().requires_grad_(False)


def _batch(data: LabelledSet, config: ClassifierTraining, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images, labels, noise levels and noise, as a function of (seed, step)."""
    rng = np.random.default_rng((config.seed, step))
    pick = torch.from_numpy(rng.integers(len(data.labels), size=config.batch))
    low, high = (math.log(v) for v in config.sigma)
    level = low + (high - low) * (np.arange(config.batch) + rng.random(config.batch)) / config.batch
    x0 = data.images[pick]
    noise = torch.from_numpy(rng.standard_normal(tuple(x0.shape), dtype=np.float32))
    return x0, data.labels[pick], torch.from_numpy(np.exp(level).astype(np.float32)), noise


@torch.no_grad()
def _accuracy(classifier: NoisyClassifier, data: LabelledSet, config: ClassifierTraining) -> dict[float, float]:
    generator = torch.Generator().manual_seed(config.seed)
    noise = torch.randn(data.images.shape, generator=generator)
    found = {}
    for sigma in (0.02, 0.5, 1.0, 2.0, 5.0):
        guess = classifier(data.images + sigma * noise, torch.tensor(sigma)).argmax(1)
        found[sigma] = float((guess == data.labels).double().mean())
    return found
