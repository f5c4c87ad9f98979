"""
Repair a JPEG file
==================

The quantisation tables are read from the file. They give an interval for every coefficient of the true image, and the
restoration stays close to it: the information in the file is kept.
"""

from pathlib import Path
from tempfile import mkdtemp

import skimage.data
import torch
from PIL import Image

import invsolve as iv

pixels = skimage.data.astronaut()[0:192, 128:320]
path = Path(mkdtemp()) / "blocky.jpg"
Image.fromarray(pixels).save(path, quality=10)
print(
    f"{path.stat().st_size / 1000:.1f} kB for {pixels.shape[0]} x {pixels.shape[1]} pixels"
)

# %%

done = iv.restore(path, task="jpeg")
clean = torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255


def psnr(image):
    return float(-10 * (image - clean).square().mean().log10())


file, restored = iv.io.read_image(path).pixels, done.image.pixels
iv.diagnostics.show_images(
    {
        f"file, {psnr(file):.1f} dB": file,
        f"restored, {psnr(restored):.1f} dB": restored,
        "clean": clean,
    }
)
