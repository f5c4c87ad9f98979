"""Make the degraded photographs of this folder from images that ship with scikit-image: python examples/make.py

chelsea-masked.png   60 % of the pixels lost (transparent), noise 0.01
coffee-blurred.png   Gaussian blur of std 2 pixels, noise 0.01
rocket-small.png     bicubic downsampling by 4, noise 0.01
"""

from pathlib import Path

import skimage
import torch
from PIL import Image

import invsolve as iv
from invsolve import costs, operators

HERE = Path(__file__).parent
RECIPES = {
    "chelsea-masked.png": ("chelsea", (0, 51, 300, 400)),
    "coffee-blurred.png": ("coffee", (60, 140, 288, 352)),
    "rocket-small.png": ("rocket", (0, 160, 400, 320)),
}


def operator_for(name: str, shape: tuple[int, ...]) -> iv.LinearOperator:
    """The forward operator of the named image."""
    if name == "chelsea-masked.png":
        return operators.Inpainting.random(shape, keep=0.4, rng=iv.Rng(0))
    if name == "coffee-blurred.png":
        return operators.GaussianBlur(shape, 2.0, padding="symmetric")
    return operators.SuperResolution(shape, 4)


def main() -> None:
    """Write all examples."""
    for name, (source, (top, left, height, width)) in RECIPES.items():
        array = getattr(skimage.data, source)()[top : top + height, left : left + width]
        clean = torch.from_numpy(array.copy()).permute(2, 0, 1)[None] / 255
        operator = operator_for(name, tuple(clean.shape[1:]))
        y = costs.GaussianLikelihood(operator, None, 0.01).simulate(clean, iv.Rng(1))[0].clamp(0, 1)
        pixels = (255 * y).round().byte().permute(1, 2, 0).numpy()
        image = Image.fromarray(pixels)
        if isinstance(operator, operators.Inpainting):
            kept = operator(torch.ones_like(clean))[0, 0]
            image.putalpha(Image.fromarray((255 * kept).byte().numpy()))
        image.save(HERE / name, optimize=True)


if __name__ == "__main__":
    main()
