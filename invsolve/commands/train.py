"""The command `invsolve train`."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import fields
from pathlib import Path

from invsolve.priors.networks.unet import DenoiserConfig
from invsolve.train.classifier import ClassifierTraining, train_classifier
from invsolve.train.denoiser import train_denoiser
from invsolve.train.noise_network import NoiseTraining, train_noise_network
from invsolve.train.settings import DenoiserTraining

__all__ = [
    "add_arguments",
    "add_classifier_arguments",
    "add_noise_arguments",
    "add_parser",
    "run",
    "run_classifier",
    "run_noise",
]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `invsolve train denoiser`."""
    base = DenoiserConfig()
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="folder of images, searched recursively"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="weight file to write (.safetensors)")
    parser.add_argument(
        "--labels", action="store_true", help="sub-folders of DIR are classes of small images of one size"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--hours", type=float, default=1.0, help="length of the run over all its parts (default 1)")
    length.add_argument("--steps", type=int, help="length of the run in steps, for a reproducible run")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="continue the run whose state lies beside FILE")
    start.add_argument("--overwrite", action="store_true", help="start anew although FILE exists")
    parser.add_argument("--init", type=Path, metavar="FILE", help="weights of an earlier training to start from")
    parser.add_argument(
        "--warmup", type=int, default=DenoiserTraining.warmup, help="steps over which the learning rate rises"
    )
    parser.add_argument("--channels", type=_numbers, default=base.channels, help="features of each stage, with commas")
    parser.add_argument(
        "--blocks", type=_numbers, default=base.blocks, help="residual blocks of each stage, with commas"
    )
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--learning-rate", type=float, default=DenoiserTraining.learning_rate)
    parser.add_argument(
        "--decay", type=float, default=DenoiserTraining.decay, help="share of the run in which the rate falls"
    )
    parser.add_argument("--batch", type=int, default=DenoiserTraining.batch, help="crops a step")
    parser.add_argument("--crop", type=int, default=DenoiserTraining.crop, help="side of the crops in pixels")
    parser.add_argument("--final-crop", type=int, help="side of the crops while the rate falls (default: --crop)")
    parser.add_argument(
        "--validation", nargs="*", default=(), metavar="NAME", help="images to hold out, by first letters"
    )
    parser.add_argument("--checkpoint-minutes", type=float, default=DenoiserTraining.checkpoint_minutes)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--compile", action="store_true", help="compile the network first; needs a C++ compiler")
    parser.add_argument("--workers", type=int, help="threads that share a batch on a CPU (default: as torch uses)")
    parser.add_argument("--seed", type=int, default=0)


def add_classifier_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `invsolve train classifier`."""
    base = ClassifierTraining
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="a folder with a sub-folder a class")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="weight file to write (.safetensors)")
    parser.add_argument("--overwrite", action="store_true", help="start anew although FILE exists")
    parser.add_argument("--steps", type=int, default=base.steps)
    parser.add_argument("--batch", type=int, default=base.batch)
    parser.add_argument("--learning-rate", type=float, default=base.learning_rate)
    parser.add_argument(
        "--gradient-penalty", type=float, default=base.gradient_penalty, help="smoothness of the guidance"
    )
    parser.add_argument("--score-matching", type=float, default=base.score_matching, help="weight; needs --prior")
    parser.add_argument("--prior", type=Path, help="weight file of train denoiser --labels on the same images")
    parser.add_argument("--label-smoothing", type=float, default=base.label_smoothing)
    parser.add_argument("--width", type=int, default=base.width, help="features of the network")
    parser.add_argument("--seed", type=int, default=0)


def add_noise_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `invsolve train noise`."""
    base = NoiseTraining
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="folder of photographs, searched recursively"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="weight file to write (.safetensors)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes", type=float, default=base.minutes, help=f"length of the run (default {base.minutes:g})"
    )
    length.add_argument("--steps", type=int, help="length of the run in steps, for a reproducible run")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="continue the run whose state lies beside FILE")
    start.add_argument("--overwrite", action="store_true", help="start anew although FILE exists")
    parser.add_argument("--batch", type=int, default=base.batch, help="tiles a step")
    parser.add_argument("--learning-rate", type=float, default=base.learning_rate)
    parser.add_argument(
        "--validation", nargs="*", default=(), metavar="NAME", help="images to hold out, by first letters"
    )
    parser.add_argument("--seed", type=int, default=0)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add `train denoiser` to a command line; the parser's default `run` takes the parsed arguments."""
    train = subparsers.add_parser("train", help="train a small prior from your own images")
    kinds = train.add_subparsers(dest="kind", required=True)
    denoiser = kinds.add_parser("denoiser", help="a folder of images in, a denoising prior out")
    add_arguments(denoiser)
    denoiser.set_defaults(run=run)
    classifier = kinds.add_parser("classifier", help="labelled images in, a classifier for guidance out")
    add_classifier_arguments(classifier)
    classifier.set_defaults(run=run_classifier)
    noise = kinds.add_parser("noise", help="a folder of photographs in, the network that reads a file's noise out")
    add_noise_arguments(noise)
    noise.set_defaults(run=run_noise)
    return train


def run(args: argparse.Namespace) -> int:
    """Train with parsed arguments; returns the exit code, 2 with one sentence on standard error for a wrong input."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        train_denoiser(
            DenoiserTraining(
                images=args.images,
                out=args.out,
                hours=args.hours,
                steps=args.steps,
                init=args.init,
                warmup=args.warmup,
                resume=args.resume,
                overwrite=args.overwrite,
                labels=args.labels,
                network=DenoiserConfig(channels=args.channels, blocks=args.blocks),
                optimizer=args.optimizer,
                learning_rate=args.learning_rate,
                decay=args.decay,
                batch=args.batch,
                crop=args.crop,
                final_crop=args.final_crop or args.crop,
                validation=tuple(args.validation),
                checkpoint_minutes=args.checkpoint_minutes,
                precision=args.precision,
                compiled=args.compile,
                workers=args.workers,
                seed=args.seed,
            )
        )
    except (ValueError, FloatingPointError) as error:
        sys.stderr.write(f"invsolve train: {error}\n")
        return 2
    return 0


def run_classifier(args: argparse.Namespace) -> int:
    """Train a classifier with parsed arguments; returns the exit code, 2 with one sentence for a wrong input."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    names = {f.name for f in fields(ClassifierTraining)}
    try:
        train_classifier(ClassifierTraining(**{k: v for k, v in vars(args).items() if k in names}))
    except (ValueError, FloatingPointError) as error:
        sys.stderr.write(f"invsolve train: {error}\n")
        return 2
    return 0


def run_noise(args: argparse.Namespace) -> int:
    """Train a noise network with parsed arguments; returns the exit code, 2 with one sentence for a wrong input."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    names = {f.name for f in fields(NoiseTraining)}
    try:
        chosen = {k: v for k, v in vars(args).items() if k in names}
        chosen["validation"] = tuple(args.validation)
        train_noise_network(NoiseTraining(**chosen))
    except (ValueError, FloatingPointError) as error:
        sys.stderr.write(f"invsolve train: {error}\n")
        return 2
    return 0
