"""
Remove noise
============

A photograph with strong white noise, restored with the defaults. The noise level is not given: it is estimated from
the image.
"""

import skimage.data
import torch

import invsolve as iv

pixels = skimage.data.chelsea()[20:180, 110:270].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1) / 255
noisy = clean + 0.15 * torch.randn(
    clean.shape, generator=torch.Generator().manual_seed(0)
)

# %%
# One call restores it. The record says what was found and done.

done = iv.restore(noisy, task="denoise")
print(done.record["noise"]["found"])
print(f"{done.record['stats']['network_forwards']:.0f} network calls")


def psnr(image):
    return float(-10 * (image.clamp(0, 1) - clean).square().mean().log10())


restored = done.image.pixels
iv.diagnostics.show_images(
    {
        f"noisy, {psnr(noisy):.1f} dB": noisy,
        f"restored, {psnr(restored):.1f} dB": restored,
        "clean": clean,
    }
)

# %%
# The restoration is a *point estimate*, close to the mean of all images that agree with the measurement. It is
# therefore a little smoother than the clean photograph: detail that the noise has hidden is averaged away, not invented.
