"""The command `invsolve train`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from invsolve.commands.options import add_options, given
from invsolve.core.options import options_of
from invsolve.priors.networks.unet_config import DenoiserConfig
from invsolve.train.settings import ClassifierTraining, DenoiserTraining, KernelTraining, NoiseTraining

__all__ = ["add_parser"]


SMALL: Sequence[tuple[str, type, str, str]] = (
    (
        "classifier",
        ClassifierTraining,
        "invsolve.train.classifier:train_classifier",
        "train a classifier for guidance from labelled images",
    ),
    (
        "noise",
        NoiseTraining,
        "invsolve.train.noise_network:train_noise_network",
        "train the network that estimates a file's noise, from photographs",
    ),
    (
        "kernels",
        KernelTraining,
        "invsolve.train.kernel_network:train_kernel_network",
        "train the network that corrects blur kernels, from photographs",
    ),
)
"""Name, settings, function and help of each kind of training but that of a denoiser."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add `train denoiser|classifier|noise|kernels` to a command line; the default `run` takes the parsed arguments."""
    train = subparsers.add_parser("train", help="train a prior or another small network from your own images")
    kinds = train.add_subparsers(dest="kind", required=True)
    denoiser = kinds.add_parser("denoiser", help="train a denoising prior from a folder of images")
    add_options(denoiser, DenoiserTraining)
    add_options(denoiser, DenoiserConfig)
    denoiser.set_defaults(run=run_denoiser)
    for name, settings, function, line in SMALL:
        parser = kinds.add_parser(name, help=line)
        add_options(parser, settings)
        parser.set_defaults(run=partial(run_small, settings, function))
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


def run_small(kind: type, function: str, args: argparse.Namespace) -> int:
    """Train a network whose settings are the dataclass `kind`, by `function` ("module:name"); returns the exit code."""
    module, name = function.split(":")
    return _run(lambda: getattr(import_module(module), name)(kind(**given(args, options_of(kind)))))


def _run(train: Callable[[], Any]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    train()
    return 0
