"""
Enlarge
=======

A photograph that was made four times smaller (bicubic, as in Pillow) is enlarged again.
"""

import skimage.data
import torch

import invsolve as iv

pixels = skimage.data.astronaut()[0:192, 128:320].copy()
clean = torch.from_numpy(pixels).permute(2, 0, 1) / 255

# %%
# ``simulate=True`` degrades the image first and compares the result with the original. Leave it out for an image of
# your own.

done = iv.restore(clean, task="superres", factor=4, noise=0.01, simulate=True)
scores = {
    name: f"{found['psnr']:.1f} dB" for name, found in done.record["scores"].items()
}
print(scores)

# %%
# ``degraded`` shows the measurement, with each pixel as a square of four by four.

iv.diagnostics.show_images(
    {
        "measured": done.degraded,
        f"restored, {scores['restored']}": done.image.pixels,
        "clean": clean,
    }
)

# %%
# The embedded prior knows local detail: edges and textures, not faces. With a prior for faces such as ``ffhq256``
# (``invsolve priors fetch ffhq256``) the same call with ``prior="ffhq256"`` draws plausible faces instead.
