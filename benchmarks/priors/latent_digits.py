"""Train the small latent prior of the tests: class-conditional digits of scikit-learn, as a diffusers folder.

    python -m benchmarks.priors.latent_digits --out tests/data/latent-digits

An autoencoder maps 8 x 8 images to 2 x 4 x 4 latents. A U-Net predicts v on the cosine table with zero terminal
signal-to-noise ratio; the label 10 means no class. Training takes about five minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.core.schedule import DDPMSchedule
from invsolve.priors.loading.beta_tables import betas, zero_terminal_snr

VAE = {
    "in_channels": 1, "out_channels": 1, "latent_channels": 2, "sample_size": 8, "layers_per_block": 1,
    "block_out_channels": (8, 16), "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 4,
}  # fmt: skip
UNET = {
    "sample_size": 4, "in_channels": 2, "out_channels": 2, "layers_per_block": 1, "block_out_channels": (16, 24),
    "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "norm_num_groups": 8,
    "attention_head_dim": 8, "num_class_embeds": 11,
}  # fmt: skip
SCHEDULER = {
    "_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
}  # fmt: skip
NULL, DROP, BATCH = 10, 0.15, 128


def digits() -> tuple[Tensor, Tensor]:
    """The images [1797, 1, 8, 8] in [-1, 1] and their labels."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1, torch.tensor(data.target)


def train_autoencoder(x: Tensor, steps: int, g: torch.Generator) -> Any:
    """Train by least squares, with a weak pull of the latents towards the standard normal."""
    import diffusers

    model: Any = getattr(diffusers, "AutoencoderKL")(**VAE)  # noqa: B009 - its types are not exported
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    loss = x.new_zeros(())
    for _ in range(steps):
        batch = x[torch.randint(len(x), (BATCH,), generator=g)]
        law = model.encode(batch).latent_dist
        z = law.mean + law.std * torch.randn(law.mean.shape, generator=g)
        loss = (model.decode(z).sample - batch).square().mean() + 1e-4 * law.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    print(f"autoencoder: mean squared error {loss.item():.4f} in [-1, 1] units")
    with torch.no_grad():
        model.register_to_config(scaling_factor=float(1 / model.encode(x).latent_dist.mean.std()))
    return model


def train_network(z: Tensor, labels: Tensor, steps: int, g: torch.Generator) -> Any:
    """Train v-prediction at uniform indices, with some labels dropped."""
    import diffusers

    model: Any = getattr(diffusers, "UNet2DModel")(**UNET)  # noqa: B009
    schedule = DDPMSchedule(zero_terminal_snr(betas("cosine")))
    bars = torch.tensor(schedule.alpha_bars[1:]).float()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    losses = []
    for _ in range(steps):
        pick, k = torch.randint(len(z), (BATCH,), generator=g), torch.randint(1000, (BATCH,), generator=g)
        noise = torch.randn(z[pick].shape, generator=g)
        alpha, sigma = (root[:, None, None, None] for root in (bars[k].sqrt(), (1 - bars[k]).sqrt()))
        label = torch.where(torch.rand(BATCH, generator=g) < DROP, NULL, labels[pick])
        out = model(alpha * z[pick] + sigma * noise, k, label, return_dict=False)[0]
        loss = (out - (alpha * noise - sigma * z[pick])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        losses.append(loss.item())
    print(f"network: mean squared error of v {sum(losses[-100:]) / 100:.4f}")
    return model


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--autoencoder-steps", type=int, default=800)
    parser.add_argument("--network-steps", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)  # seed of the initial weights
    g = torch.Generator().manual_seed(args.seed)
    x, labels = digits()
    autoencoder = train_autoencoder(x, args.autoencoder_steps, g)
    with torch.no_grad():
        z = autoencoder.encode(x).latent_dist.mean * autoencoder.config.scaling_factor
    network = train_network(z, labels, args.network_steps, g)
    network.half().save_pretrained(args.out / "unet")
    autoencoder.half().save_pretrained(args.out / "vae")
    parts = {"unet": "UNet2DModel", "vae": "AutoencoderKL", "scheduler": "DDIMScheduler"}
    index = {"_class_name": "DiTPipeline", **{part: ["diffusers", kind] for part, kind in parts.items()}}
    (args.out / "scheduler").mkdir(exist_ok=True)
    (args.out / "model_index.json").write_text(json.dumps(index, indent=1) + "\n")
    (args.out / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER, indent=1) + "\n")
    print(f"{sum(path.stat().st_size for path in args.out.rglob('*') if path.is_file())} bytes in {args.out}")


if __name__ == "__main__":
    main()
