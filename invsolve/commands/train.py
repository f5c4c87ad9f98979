"""The command `invsolve train`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import Any

from invsolve.commands.options import add_options, given
from invsolve.core.options import options_of
from invsolve.priors.networks.unet_config import DenoiserConfig
from invsolve.train.settings import ClassifierTraining, DenoiserTraining, KernelTraining, NoiseTraining

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add `train denoiser|classifier|noise|kernels` to a command line; the default `run` takes the parsed arguments."""
    train = subparsers.add_parser("train", help="train a prior or another small network from your own images")
    kinds = train.add_subparsers(dest="kind", required=True)
    denoiser = kinds.add_parser("denoiser", help="train a denoising prior from a folder of images")
    add_options(denoiser, DenoiserTraining)
    add_options(denoiser, DenoiserConfig)
    denoiser.set_defaults(run=run_denoiser)
    classifier = kinds.add_parser("classifier", help="train a classifier for guidance from labelled images")
    add_options(classifier, ClassifierTraining)
    classifier.set_defaults(run=run_classifier)
    noise = kinds.add_parser("noise", help="train the network that estimates a file's noise, from photographs")
    add_options(noise, NoiseTraining)
    noise.set_defaults(run=run_noise)
    kernels = kinds.add_parser("kernels", help="train the network that corrects blur kernels, from photographs")
    add_options(kernels, KernelTraining)
    kernels.set_defaults(run=run_kernels)
    return train


def run_denoiser(args: argparse.Namespace) -> int:
    """Train a denoiser with parsed arguments; returns the exit code."""
    from invsolve.train.denoiser import train_denoiser

    told = given(args, options_of(DenoiserTraining))
    return _run(
        lambda: train_denoiser(
            DenoiserTraining(**told, network=DenoiserConfig(**given(args, options_of(DenoiserConfig))))
        )
    )


def run_classifier(args: argparse.Namespace) -> int:
    """Train a classifier with parsed arguments; returns the exit code."""
    from invsolve.train.classifier import train_classifier

    return _run(lambda: train_classifier(ClassifierTraining(**given(args, options_of(ClassifierTraining)))))


def run_noise(args: argparse.Namespace) -> int:
    """Train a noise network with parsed arguments; returns the exit code."""
    from invsolve.train.noise_network import train_noise_network

    return _run(lambda: train_noise_network(NoiseTraining(**given(args, options_of(NoiseTraining)))))


def run_kernels(args: argparse.Namespace) -> int:
    """Train a kernel network with parsed arguments; returns the exit code."""
    from invsolve.train.kernel_network import train_kernel_network

    return _run(lambda: train_kernel_network(KernelTraining(**given(args, options_of(KernelTraining)))))


def _run(train: Callable[[], Any]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    train()
    return 0
