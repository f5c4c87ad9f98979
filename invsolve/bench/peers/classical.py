"""Methods of scikit-image, SciPy, OpenCV, Pillow and bm3d for the tasks of `invsolve restore`.

A method takes a `Measured` image and one parameter, and returns an image [H, W, C]. All its parameter values are tried,
and the one with the highest mean PSNR on the images of the table is kept, which favours the method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["METHODS", "Measured", "Method"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Measured:
    """A degraded image and its known degradation.

    Attributes:
        image: [h, w, C], not clipped.
        sigma: standard deviation of its noise.
        factor: downsampling factor.
        missing: missing pixels, bool [h, w].
        kernel: the blur kernel.
    """

    image: Array
    sigma: float
    factor: int = 1
    missing: NDArray[np.bool_] | None = None
    kernel: Array | None = None

    def lost(self) -> NDArray[np.bool_]:
        """Return the mask of missing pixels.

        Raises:
            ValueError: if no pixels are missing.
        """
        if self.missing is None:
            raise ValueError("nothing is missing")
        return self.missing

    def blur(self) -> Array:
        """Return the blur kernel.

        Raises:
            ValueError: if the image was not blurred.
        """
        if self.kernel is None:
            raise ValueError("the image was not blurred")
        return self.kernel


@dataclass(frozen=True)
class Method:
    """A method, the parameter values to try, and the usual one, which the leaderboard uses."""

    name: str
    make: Callable[[Measured, float], Array]
    numbers: tuple[float, ...] = (0.0,)
    usual: float = 0.0


def _bytes(image: Array) -> NDArray[np.uint8]:
    return (255 * image.clip(0, 1)).round().astype(np.uint8)


def _wavelets(y: Measured, number: float) -> Array:
    from skimage.restoration import denoise_wavelet

    return denoise_wavelet(y.image, sigma=number * y.sigma, channel_axis=-1, convert2ycbcr=True, rescale_sigma=True)


def _total_variation(y: Measured, number: float) -> Array:
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(y.image, weight=number, channel_axis=-1)


def _non_local_means(y: Measured, number: float) -> Array:
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(
        y.image, patch_size=5, patch_distance=6, h=number * y.sigma, sigma=y.sigma, fast_mode=True, channel_axis=-1
    )


def _opencv_non_local_means(y: Measured, number: float) -> Array:
    import cv2

    return np.asarray(cv2.fastNlMeansDenoisingColored(_bytes(y.image), None, number, number, 7, 21)) / 255.0


def _local_wiener(y: Measured, number: float) -> Array:
    from scipy.signal import wiener

    return np.stack([wiener(y.image[..., c], int(number), y.sigma**2) for c in range(y.image.shape[-1])], -1)


def _bm3d(y: Measured, number: float) -> Array:
    from bm3d import bm3d_rgb

    return np.asarray(bm3d_rgb(y.image, y.sigma))


def _pillow(name: str) -> Callable[[Measured, float], Array]:
    def enlarge(y: Measured, number: float) -> Array:
        from PIL import Image

        height, width = (y.factor * side for side in y.image.shape[:2])
        planes = [Image.fromarray(y.image[..., c].astype(np.float32)) for c in range(y.image.shape[-1])]
        return np.stack([np.asarray(p.resize((width, height), Image.Resampling[name])) for p in planes], -1)

    return enlarge


def _back_projection(y: Measured, number: float) -> Array:
    """Irani and Peleg 1991: bicubic upsampling, then `number` times add the upsampled residual of y."""
    from skimage.transform import resize

    height, width = y.image.shape[:2]
    large = _pillow("BICUBIC")(y, 0.0)
    for _ in range(int(number)):
        small = resize(large, (height, width), order=3, anti_aliasing=True)
        large = large + _pillow("BICUBIC")(Measured(y.image - small, 0.0, y.factor), 0.0)
    return large


def _opencv_inpaint(flag: str) -> Callable[[Measured, float], Array]:
    def fill(y: Measured, number: float) -> Array:
        import cv2

        missing = y.lost()
        filled = np.asarray(cv2.inpaint(_bytes(y.image), missing.astype(np.uint8), number, getattr(cv2, flag))) / 255.0
        return np.where(missing[..., None], filled, y.image)

    return fill


def _biharmonic(y: Measured, number: float) -> Array:
    from skimage.restoration import inpaint_biharmonic

    return inpaint_biharmonic(y.image, y.lost(), split_into_regions=False, channel_axis=-1)


def _by_channel(restore: Callable[[Array, Array, float], Array]) -> Callable[[Measured, float], Array]:
    """Deconvolve each channel, with borders mirrored by the width of the kernel."""

    def deblur(y: Measured, number: float) -> Array:
        kernel = y.blur()
        pad = kernel.shape[0]
        padded = np.pad(y.image, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric").clip(0, 1)
        planes = [restore(padded[..., c], kernel, number) for c in range(padded.shape[-1])]
        return np.stack(planes, -1)[pad:-pad, pad:-pad]

    return deblur


def _richardson_lucy(plane: Array, kernel: Array, number: float) -> Array:
    from skimage.restoration import richardson_lucy

    return np.asarray(richardson_lucy(plane, kernel, num_iter=int(number), filter_epsilon=1e-3))


def _wiener(plane: Array, kernel: Array, number: float) -> Array:
    from skimage.restoration import wiener

    return np.asarray(wiener(plane, kernel, balance=number, clip=False))


def _unsupervised_wiener(plane: Array, kernel: Array, number: float) -> Array:
    from skimage.restoration import unsupervised_wiener

    return np.asarray(unsupervised_wiener(plane, kernel, clip=False, rng=0)[0])


TV_WEIGHTS = (0.02, 0.05, 0.1, 0.15, 0.2)

METHODS: Mapping[str, tuple[Method, ...]] = {
    "denoise": (
        Method("wavelets, BayesShrink (scikit-image)", _wavelets, (0.5, 0.75, 1.0, 1.5), 1.0),
        Method("total variation (scikit-image)", _total_variation, TV_WEIGHTS, 0.1),
        Method("non-local means (scikit-image)", _non_local_means, (0.2, 0.4, 0.6, 0.8, 1.0), 0.6),
        Method("fastNlMeans (OpenCV)", _opencv_non_local_means, (5, 10, 15, 20, 25), 10),
        Method("local Wiener filter (SciPy)", _local_wiener, (3, 5, 7), 5),
        Method("BM3D (bm3d)", _bm3d),
    ),
    "superres": (
        Method("bicubic (Pillow)", _pillow("BICUBIC")),
        Method("Lanczos (Pillow)", _pillow("LANCZOS")),
        Method("iterative back-projection", _back_projection, (1, 2, 5, 10), 2),
    ),
    "inpaint": (
        Method("Telea (OpenCV)", _opencv_inpaint("INPAINT_TELEA"), (1, 3, 5), 3),
        Method("Navier-Stokes (OpenCV)", _opencv_inpaint("INPAINT_NS"), (1, 3, 5), 3),
        Method("biharmonic (scikit-image)", _biharmonic),
    ),
    "deblur": (
        Method("Richardson-Lucy (scikit-image)", _by_channel(_richardson_lucy), (5, 10, 20, 40, 80), 20),
        Method("Wiener (scikit-image)", _by_channel(_wiener), (0.001, 0.003, 0.01, 0.03, 0.1), 0.01),
        Method("unsupervised Wiener (scikit-image)", _by_channel(_unsupervised_wiener)),
    ),
    "jpeg": (
        Method("total variation (scikit-image)", _total_variation, (0.01, *TV_WEIGHTS)),
        Method("fastNlMeans (OpenCV)", _opencv_non_local_means, (1, 2, 3, 5, 10)),
    ),
}
"""Methods by the name of the task."""
