"""Draw docs/images/concepts.jpg: a measurement, posterior samples, the point estimate, the width of the intervals.

python docs/make_concepts.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import skimage.data
import torch

import invsolve as iv

PAGE = Path(__file__).parent / "images" / "concepts.jpg"


def main() -> None:
    """Restore one photograph with samples and draw the results."""
    pixels = skimage.data.astronaut()[40:168, 160:288]
    clean = torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255
    done = iv.restore(clean, task="superres", factor=4, noise=0.01, samples=6, simulate=True)
    low, high = done.interval(0.9)
    samples = {f"sample {i + 1}": done.samples[i] for i in range(3)}
    shown = {"measurement y": done.degraded, **samples, "point estimate": done.image.pixels}
    figure = iv.diagnostics.show_images({**shown, "interval width": (high - low).mean(0)})
    figure.savefig(PAGE, dpi=110, pil_kwargs={"quality": 88})


if __name__ == "__main__":
    main()
