"""
Which pixels can be trusted?
============================

Six posterior samples show where the image is uncertain. A calibration on photographs with known truth determines how
much their spread must be widened. The result is an interval for every pixel.
"""

import skimage.data
import torch

import invsolve as iv

pixels = skimage.data.astronaut()[40:136, 170:266].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1) / 255
done = iv.restore(
    clean, task="superres", factor=4, noise=0.01, samples=6, simulate=True
)

low, high = done.interval(0.9)
inside = ((clean >= low) & (clean <= high)).float().mean()
print(f"{inside:.0%} of the pixels of this image lie in their 90 % interval")
print(done.record["uncertainty"])

# %%

iv.diagnostics.show_images(
    {
        "measured": done.degraded,
        "restored": done.image.pixels,
        "one sample": done.samples[0],
        "width of the interval": (high - low).mean(0),
        "error": (done.image.pixels - clean).abs().mean(0),
    }
)

# %%
# Wide intervals and large errors are in the same places: edges. A number computed from the image, for example the
# brightness of a region, has its own interval:

print(
    done.interval_of(lambda x: float(x[:, 40:60, 40:60].mean()), 0.9),
    float(clean[:, 40:60, 40:60].mean()),
)
