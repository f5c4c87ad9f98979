"""
Sharpen with a known blur
=========================

The path of the camera shake is known: the blur kernel (point spread function) is given as an array. It can also be a
file.
"""

import skimage.data
import torch

import invsolve as iv
from invsolve.operators import camera_shake_kernel

pixels = skimage.data.coffee()[100:290, 230:420].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1) / 255
kernel = camera_shake_kernel(12.0, 0.5, iv.Rng(3))

done = iv.restore(
    clean, task="deblur", kernel=kernel.numpy(), noise=0.01, simulate=True
)
scores = {
    name: f"{found['psnr']:.1f} dB" for name, found in done.record["scores"].items()
}
iv.diagnostics.show_images(
    {
        "kernel": kernel / kernel.max(),
        f"blurred, {scores['blurred']}": done.degraded,
        f"restored, {scores['restored']}": done.image.pixels,
        "clean": done.truth,
    }
)

# %%
# A blurred photograph depends on a scene that is a little larger than the frame: light from outside is smeared into it.
# The restoration estimates this larger scene and shows the part inside the frame, so there are no ripples along the
# borders.
