"""
Fill in what is missing
=======================

Scattered pixels that were lost, and scribbles over a photograph. Missing pixels are white in the mask.
"""

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageDraw

import invsolve as iv

pixels = skimage.data.coffee()[60:220, 150:310].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1) / 255

lost = (torch.rand(160, 160, generator=torch.Generator().manual_seed(0)) < 0.7).float()
picture = Image.new("L", (160, 160))
pen = ImageDraw.Draw(picture)
for row in (30, 70, 110, 150):
    pen.line([(5, row), (50, row - 25), (100, row), (155, row - 25)], fill=255, width=4)
scribbles = torch.from_numpy(np.array(picture)) / 255

# %%
# Only the mask differs. The settings depend on how the missing pixels are scattered.

for name, mask in (("70 % of the pixels lost", lost), ("scribbles", scribbles)):
    done = iv.restore(clean, task="inpaint", mask=mask, noise=0.01, simulate=True)
    scores = {
        method: f"{found['psnr']:.1f} dB"
        for method, found in done.record["scores"].items()
    }
    print(name, scores)
    iv.diagnostics.show_images(
        {
            name: done.degraded,
            f"restored, {scores['restored']}": done.image.pixels,
            "clean": clean,
        }
    )
