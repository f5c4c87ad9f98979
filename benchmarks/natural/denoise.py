"""Gaussian denoising by the packaged priors, total variation, wavelets and BM3D.

    python -m benchmarks.natural.denoise

Crops of images that no prior of this package was trained on get white noise of 15, 25 and 50 of 255 grey levels, the
same for every method. The noisy image is not clipped. The results `denoise.json`, `denoise.md` and `denoise.png` are
written to `benchmarks/natural/results/`. With `--only`, the named methods are measured, and the others keep their
values of the last `denoise.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import markdown, psnr
from benchmarks.photographs import middles
from invsolve.bench.peers.classical import METHODS, Measured
from invsolve.priors.networks.unet import load_denoiser, self_ensemble
from invsolve.restoration.pace import OF_PHOTOGRAPHS as PRIORS

Image = NDArray[np.float64]
Method = Callable[[Image, float], Image]
Results = dict[str, dict[str, dict[str, float]]]

ROOT = Path(__file__).resolve().parent
WEIGHTS = ROOT.parents[1] / "invsolve" / "priors" / "weights"
LEVELS = (15, 25, 50)
FOUR = ("astronaut", "chelsea", "coffee", "rocket")
"""The images on which the target (0.2 dB above BM3D) was set."""


def images(size: int) -> dict[str, Image]:
    """Central crops `[size, size, 3]` in [0, 1] of scikit-image's and scikit-learn's images."""
    return {name: crop / 255 for name, crop in middles(size).items()}


def network_method(path: Path, *, ensemble: bool = False) -> Method:
    """A prior as a method on images in [0, 1]: one network call in float32, or eight as an ensemble."""
    denoiser = load_denoiser(path)
    call = self_ensemble(denoiser) if ensemble else denoiser

    @torch.no_grad()
    def method(noisy: Image, sigma: float) -> Image:
        x = torch.from_numpy(noisy).permute(2, 0, 1)[None].float() * 2 - 1
        estimate = call(x, torch.tensor(2 * sigma))
        return ((estimate[0].permute(1, 2, 0) + 1) / 2).numpy().astype(np.float64)

    return method


def peer_methods() -> dict[str, Method]:
    """The noisy image, Chambolle's total variation, BayesShrink wavelets and BM3D, each given the noise level."""
    named = {method.name: method.make for method in METHODS["denoise"]}
    total_variation = named["total variation (scikit-image)"]
    wavelets, bm3d = named["wavelets, BayesShrink (scikit-image)"], named["BM3D (bm3d)"]
    return {
        "noisy": lambda noisy, _: noisy,
        "total variation": lambda noisy, sigma: total_variation(Measured(noisy, sigma), 1.4 * sigma),
        "wavelets": lambda noisy, sigma: wavelets(Measured(noisy, sigma), 1.0),
        "BM3D": lambda noisy, sigma: bm3d(Measured(noisy, sigma), 0.0),
    }


def measure(method: Method, crops: dict[str, Image]) -> dict[str, dict[str, float]]:
    """PSNR by noise level and image; seconds per image under the level "seconds"."""
    by_level: dict[str, dict[str, float]] = {str(level): {} for level in LEVELS} | {"seconds": {}}
    method(next(iter(crops.values()))[:64, :64], 0.1)  # untimed: imports and setup
    for i, (image, truth) in enumerate(crops.items()):
        start = time.perf_counter()
        for level in LEVELS:
            noise = np.random.default_rng((level, i)).standard_normal(truth.shape)
            by_level[str(level)][image] = psnr(method(truth + level / 255 * noise, level / 255), truth)
        by_level["seconds"][image] = (time.perf_counter() - start) / len(LEVELS)
    return by_level


def table(results: Results, names: tuple[str, ...]) -> str:
    """Markdown: mean PSNR and its standard error over the images `names`."""
    rows: list[list[str]] = []
    for method, by_level in results.items():
        cells: list[str] = []
        for level in LEVELS:
            values = np.array([by_level[str(level)][n] for n in names])
            cells.append(f"{values.mean():.2f} ± {values.std(ddof=1) / len(values) ** 0.5:.2f}")
        rows.append([method, *cells, f"{np.mean(list(by_level['seconds'].values())):.2f}"])
    for name in PRIORS:
        prior, peer = results[f"{name}, one call"], results["BM3D"]
        gain = [np.mean([prior[str(level)][n] - peer[str(level)][n] for n in names]) for level in LEVELS]
        rows.append([f"{name}, one call, minus BM3D", *(f"{g:+.2f}" for g in gain), ""])
    return markdown(["method", *(f"noise {level}/255" for level in LEVELS), "s an image"], rows)


def draw(methods: dict[str, Method], crops: dict[str, Image], path: Path, level: int = 25) -> None:
    """One row per image: truth, noisy image and the estimate of every method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 * (len(methods) + 1), 2.35 * len(crops)), layout="constrained")
    axes = figure.subplots(len(crops), len(methods) + 1, squeeze=False)
    for row, (source, truth) in zip(axes, crops.items(), strict=True):
        noise = np.random.default_rng((level, list(crops).index(source))).standard_normal(truth.shape)
        noisy = truth + level / 255 * noise
        shown = {source: truth} | {name: method(noisy, level / 255) for name, method in methods.items()}
        for ax, (name, image) in zip(row, shown.items(), strict=True):
            side = truth.shape[0] // 4
            ax.imshow(np.clip(image[side : 3 * side, side : 3 * side], 0, 1))
            ax.set_title(name if name == source else f"{name} {psnr(image, truth):.2f} dB", fontsize=8)
            ax.axis("off")
    figure.savefig(path, dpi=90)


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    parser.add_argument("--size", type=int, default=256, help="side of the crops in pixels")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="measure only methods whose names begin with a WORD")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    store = args.out / "denoise.json"
    crops = images(args.size)
    methods = peer_methods()
    for name in PRIORS:
        path = WEIGHTS / f"{name}.safetensors"
        methods[f"{name}, one call"] = network_method(path)
        methods[f"{name}, eight calls"] = network_method(path, ensemble=True)
    known: Results = json.loads(store.read_text()) if args.only else {}
    results: Results = {}
    for name, method in methods.items():
        reused = args.only and not name.startswith(tuple(args.only))
        results[name] = known[name] if reused else measure(method, crops)
        print(
            name, {level: round(float(np.mean(list(v.values()))), 2) for level, v in results[name].items()}, flush=True
        )
        store.write_text(json.dumps(results, indent=1) + "\n")
    text = [
        "# Gaussian denoising",
        "",
        f"PSNR in dB, mean and standard error over central {args.size}x{args.size} crops;",
        "made by `python -m benchmarks.natural.denoise`.",
        "",
        f"scikit-image's {', '.join(FOUR)}:",
        "",
        table(results, FOUR),
        f"All of {', '.join(crops)}:",
        "",
        table(results, tuple(crops)),
    ]
    (args.out / "denoise.md").write_text("\n".join(text))
    draw(methods, {n: crops[n] for n in FOUR}, args.out / "denoise.png")
    print("\n".join(text))


if __name__ == "__main__":
    main()
