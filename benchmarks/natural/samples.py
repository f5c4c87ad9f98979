"""A packaged prior as a diffusion model: statistics of unconditional samples, and the error at each noise level.

    python -m benchmarks.natural.samples [--prior natural-deep]

Samples are drawn by the deterministic Heun sampler of Karras et al. 2022 (arXiv:2206.00364, algorithm 1, 40 steps from
sigma 80 to 0.005). Their gradient kurtosis and power spectrum are compared with those of crops of held-out images. The
results `samples-PRIOR.json`, `.md` and `.png` are written to `benchmarks/natural/results/`.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import markdown
from benchmarks.natural.denoise import PRIORS, ROOT, WEIGHTS, images
from invsolve.priors.networks.unet import Denoiser, load_denoiser

SIGMAS = np.geomspace(0.005, 80, 15)


def sample(denoiser: Denoiser, n: int, size: int, steps: int = 40, rho: float = 7.0, seed: int = 0) -> Tensor:
    """Draw `n` unconditional samples `[n, 3, size, size]` in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    sigmas = (80.0 ** (1 / rho) + ramp * (0.005 ** (1 / rho) - 80.0 ** (1 / rho))) ** rho
    sigmas = torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)]).float()
    x = 80.0 * torch.randn(n, 3, size, size, generator=generator)
    for sigma, following in itertools.pairwise(sigmas):
        slope = (x - denoiser(x, sigma)) / sigma
        euler = x + (following - sigma) * slope
        if following > 0:
            slope = (slope + (euler - denoiser(euler, following)) / following) / 2
            euler = x + (following - sigma) * slope
        x = euler
    return x


def real_crops(size: int) -> Tensor:
    """Non-overlapping crops `[n, 3, size, size]` in [-1, 1] of the benchmark's images."""
    whole = torch.stack([torch.from_numpy(c).permute(2, 0, 1).float() * 2 - 1 for c in images(256).values()])
    tiles = whole.unfold(2, size, size).unfold(3, size, size)
    return tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, size, size)


def gradient_kurtosis(x: Tensor) -> float:
    """Kurtosis of the grey image's differences across and down: 3 for a Gaussian field, larger for photographs."""
    grey = x.double().mean(1)
    d = torch.cat([grey.diff(dim=-1).flatten(), grey.diff(dim=-2).flatten()])
    d = d - d.mean()
    return float(d.pow(4).mean() / d.square().mean().square())


def spectrum(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Radially averaged power spectrum of the grey image under a Hann window: frequencies (cycles per pixel), power."""
    grey = x.double().mean(1)
    size = grey.shape[-1]
    window = torch.hann_window(size, periodic=True, dtype=torch.float64)
    power = torch.fft.fft2((grey - grey.mean((-2, -1), keepdim=True)) * window * window[:, None]).abs().square().mean(0)
    f = torch.fft.fftfreq(size, dtype=torch.float64)
    bins = ((f[:, None].square() + f.square()).sqrt() * size).round().long().flatten()
    total = torch.zeros(size, dtype=torch.float64).index_add_(0, bins, power.flatten())
    count = torch.zeros(size, dtype=torch.float64).index_add_(0, bins, torch.ones_like(power).flatten())
    keep = slice(2, size // 2)
    return np.arange(size)[keep] / size, (total / count.clamp_min(1))[keep].numpy()


def slope(x: Tensor) -> float:
    """Exponent `-b` of the power law `f^-b` that fits the spectrum best; natural images have b near 2."""
    f, power = spectrum(x)
    return float(np.polyfit(np.log(f), np.log(power), 1)[0])


def errors(denoiser: Denoiser, clean: Tensor) -> list[float]:
    """Root mean square error of the denoised crops at each of `SIGMAS`, in [-1, 1] units."""
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    levels = torch.from_numpy(SIGMAS).float()
    return [float((denoiser(clean + s * noise, s) - clean).square().mean().sqrt()) for s in levels]


def brightness_shift(denoiser: Denoiser, clean: Tensor, sigma: float = 50 / 127.5, shift: float = 0.1) -> float:
    """Root mean square of `D(x + shift) - shift - D(x)` on mid-grey crops, as a share of the denoising error."""
    middle = clean * 0.5
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    level = torch.tensor(sigma)
    plain = denoiser(middle + sigma * noise, level)
    moved = denoiser(middle + shift + sigma * noise, level) - shift
    return float(((moved - plain).square().mean() / (plain - middle).square().mean()).sqrt())


def draw(samples: Tensor, real: Tensor, rmse: list[float], path: Path) -> None:
    """Samples, power spectra and the error curve."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    rows = [torch.cat(list(row), dim=-1) for row in samples[:16].clamp(-1, 1).split(4)]
    left.imshow(((torch.cat(rows, dim=-2) + 1) / 2).permute(1, 2, 0).numpy())
    left.set_title("unconditional samples, 64x64")
    left.axis("off")
    for name, x in (("samples", samples), ("held-out photographs", real)):
        middle.loglog(*spectrum(x), label=name)
    middle.set(xlabel="cycles a pixel", title="power spectrum")
    middle.xaxis.set_minor_formatter(NullFormatter())
    middle.legend()
    right.loglog(SIGMAS, rmse, "o-", label="denoised")
    right.loglog(SIGMAS, SIGMAS, ":", label="noisy")
    right.set(xlabel="sigma", title="root mean square error, [-1, 1] units")
    right.legend()
    figure.savefig(path, dpi=90)


@torch.no_grad()
def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prior", choices=PRIORS, default=PRIORS[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    parser.add_argument("--samples", type=int, default=64)
    args = parser.parse_args()
    denoiser = load_denoiser(WEIGHTS / f"{args.prior}.safetensors")
    real = real_crops(64)
    samples = sample(denoiser, args.samples, 64)
    rmse = errors(denoiser, real)
    results = {
        "samples_finite": bool(samples.isfinite().all()),
        "samples_range": [float(samples.min()), float(samples.max())],
        "std": {"samples": float(samples.std()), "real": float(real.std())},
        "gradient_kurtosis": {"samples": gradient_kurtosis(samples), "real": gradient_kurtosis(real)},
        "spectrum_slope": {"samples": slope(samples), "real": slope(real)},
        "rmse": dict(zip([f"{s:.4g}" for s in SIGMAS], rmse, strict=True)),
        "rmse_monotone": bool(np.all(np.diff(rmse) > 0)),
        "brightness_shift": brightness_shift(denoiser, real),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"samples-{args.prior}.json").write_text(json.dumps(results, indent=1) + "\n")
    titles = {
        "gradient_kurtosis": "gradient kurtosis",
        "spectrum_slope": "exponent of the power spectrum",
        "std": "standard deviation",
    }
    statistics = [[title, *(f"{results[key][of]:.2f}" for of in ("samples", "real"))] for key, title in titles.items()]
    text = [
        "# The prior as a diffusion model",
        "",
        f"{args.samples} unconditional 64x64 samples beside 64x64 crops of held-out photographs;",
        f"made by `python -m benchmarks.natural.samples --prior {args.prior}`.",
        "",
        markdown(["", "samples", "photographs"], statistics),
        f"Samples finite: {results['samples_finite']}.",
        f"Error monotone in sigma over 0.005 ... 80: {results['rmse_monotone']}.",
        f"A shift of brightness by 0.1 moves the estimate by {results['brightness_shift']:.1%} of its error at 50/255.",
        "",
        markdown(["sigma", *results["rmse"]], [["error", *(f"{v:.3g}" for v in rmse)]]),
    ]
    (args.out / f"samples-{args.prior}.md").write_text("\n".join(text))
    draw(samples, real, rmse, args.out / f"samples-{args.prior}.png")
    print("\n".join(text))


if __name__ == "__main__":
    main()
