"""
Sharpen with an unknown blur
============================

The kernel is estimated from the edges of the blurred photograph, then the image is restored with it.
"""

import skimage.data
import torch

import invsolve as iv
from invsolve.operators import camera_shake_kernel

pixels = skimage.data.coffee()[110:270, 250:410].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1) / 255
true = camera_shake_kernel(10.0, 0.5, iv.Rng(1))

done = iv.restore(
    clean,
    task="blind-deblur",
    kernel=true.numpy(),
    kernel_size=17,
    noise=0.005,
    simulate=True,
)
scores = {
    name: f"{found['psnr']:.1f} dB" for name, found in done.record["scores"].items()
}
found = done.kernel
iv.diagnostics.show_images(
    {"true kernel": true / true.max(), "estimated kernel": found / found.max()},
    height=2.2,
)

# %%

iv.diagnostics.show_images(
    {
        f"blurred, {scores['blurred']}": done.degraded,
        f"restored, {scores['restored']}": done.image.pixels,
        "clean": done.truth,
    }
)

# %%
# With an unknown blur, the position of the image is unknown, too: a shift of the kernel can compensate a shift of the
# image. Scores are therefore computed after alignment.
