"""Two-sample tests: a classifier and sliced Wasserstein distances, in coordinates of unit spread."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invsolve.core.checks import InputError
from invsolve.diagnostics.reference import PosteriorReference

__all__ = ["c2st", "features", "held_out_accuracy", "sliced_wasserstein"]

LEADING = 8
"""Number of coordinates whose pairwise products are features of the classifier."""
GROUPS = 16
"""Number of groups of neighbouring coordinates whose energies are features of the classifier."""


def sliced_wasserstein(a: Tensor, b: Tensor, projections: int = 64, seed: int = 0) -> float:
    """The root mean square over random directions of the 2-Wasserstein distance of the projections.

    Rabin, Peyre, Delon, Bernot 2012, "Wasserstein barycenter and its application to texture mixing". In coordinates of
    unit spread, its unit is one posterior standard deviation. It is biased upwards: two sets of n draws from one normal
    distribution give about 1.5 / sqrt(n) or more, never 0.

    Args:
        a: [n, k].
        b: [m, k]; compared at the n mid-quantiles of `a`.
        projections: number of random unit vectors.
        seed: seed of these vectors.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"two sets of points of equal dimension expected, got {list(a.shape)} and {list(b.shape)}")
    generator = torch.Generator().manual_seed(seed)
    lines = torch.randn(a.shape[1], projections, generator=generator, dtype=a.dtype)
    lines = lines / torch.linalg.vector_norm(lines, dim=0)
    levels = (torch.arange(len(a), dtype=a.dtype) + 0.5) / len(a)
    left = (a @ lines).sort(0).values
    right = torch.quantile(b @ lines, levels, dim=0)
    return (left - right).square().mean().sqrt().item()


def features(z: Tensor, reference: PosteriorReference, item: int) -> Tensor:
    """Features of z [n, k] for the classifier: functions with about unit spread under the exact posterior, [n, p].

    They are every z_i and z_i^2 (scaled to share one unit of weight), the pairwise products of up to `LEADING`
    coordinates spread over all, and the energies of up to `GROUPS` groups of neighbours. A mixture adds its log
    density, the responsibilities r_j of its modes, and within each mode the distance from its centre and the leading
    coordinates.
    """
    k = z.shape[1]
    leading = z[:, torch.linspace(0, k - 1, min(k, LEADING)).round().long()]
    upper = torch.triu_indices(leading.shape[1], leading.shape[1], 1)
    energies = [(g.square() - 1).sum(1) / math.sqrt(2 * g.shape[1]) for g in z.tensor_split(min(k, GROUPS), 1)]
    total = (z.square() - 1).sum(1) / math.sqrt(2 * k)
    blocks = [
        z / math.sqrt(k),
        (z.square() - 1) / math.sqrt(2 * k),
        leading[:, upper[0]] * leading[:, upper[1]],
        torch.stack([total, *energies], 1),
    ]
    if reference.modes > 1:
        log, square = reference.log_components(z, item)
        share = log.softmax(1)
        distance = (square - k) / math.sqrt(2 * k)
        blocks += [log.logsumexp(1, keepdim=True) / math.sqrt(k / 2), share, share * distance]
        blocks += [(share[..., None] * leading[:, None]).flatten(1)]
    return torch.cat(blocks, 1)


def c2st(z: Tensor, exact: Tensor, reference: PosteriorReference, item: int, folds: int = 2) -> float:
    """Classifier two-sample test: held-out accuracy in distinguishing solver samples from exact ones.

    Lopez-Paz, Oquab 2017, arXiv 1610.06545. 0.5 means that they cannot be told apart, 1 that they always can. If the
    distributions are equal, the accuracy is a mean of n + m fair coins, whose standard deviation is at most about
    0.5 / sqrt(n + m). The classifier is regularised least squares on `features`; ridge and threshold are chosen by
    leave-one-out on the training fold alone.

    Args:
        z: solver samples [n, k].
        exact: exact samples [m, k], m >= n; the first n are used.
        reference: the exact posteriors.
        item: index of the item to which the samples belong.
        folds: number of folds; each is held out once.
    """
    exact = exact[: len(z)]
    a, b = features(z, reference, item), features(exact, reference, item)
    return held_out_accuracy(a, b, folds)


def held_out_accuracy(a: Tensor, b: Tensor, folds: int = 2) -> float:
    """Cross-validated accuracy of the classifier of `c2st` on two sets of feature vectors [n, p], [m, p]."""
    x = torch.cat([a, b])
    label = torch.cat([torch.ones(len(a)), -torch.ones(len(b))]).to(x)
    fold = torch.cat([torch.arange(len(a)) % folds, torch.arange(len(b)) % folds])
    x = x.clamp(-50.0, 50.0)
    right = 0.0
    for held in range(folds):
        train, test = fold != held, fold == held
        scores = _ridge_scores(x[train], label[train], x[test])
        hits = (scores.sign() == label[test]).double() + 0.5 * (scores == 0).double()
        right += hits.sum().item()
    return right / len(x)


def _ridge_scores(x: Tensor, label: Tensor, test: Tensor) -> Tensor:
    """Decision values of regularised least squares, above 0 for the label 1.

    The ridge minimises the squared leave-one-out error, which has a closed form. The threshold minimises the number of
    wrong leave-one-out decisions.
    """
    centre, middle = x.mean(0), label.mean()
    x, test, target = x - centre, test - centre, label - middle
    if x.shape[1] < len(x):
        values, basis = torch.linalg.eigh(x.T @ x)
        values = values.clamp_min(0)
        root = values.sqrt().clamp_min(1e-12)
        left = (x @ basis) / root
    else:
        values, left = torch.linalg.eigh(x @ x.T)
        values = values.clamp_min(0)
        root = values.sqrt().clamp_min(1e-12)
        basis = x.T @ (left / root)
    keep = values > 1e-10 * values.max().clamp_min(1e-300)
    values, left, basis, root = values[keep], left[:, keep], basis[:, keep], root[keep]
    if len(values) == 0:
        return torch.zeros(len(test), dtype=x.dtype)
    coefficient = left.T @ target
    best, chosen, honest = math.inf, 1.0, target
    for ridge in (len(x) * torch.logspace(-4, 3, 15, dtype=x.dtype)).tolist():
        shrink = values / (values + ridge)
        fitted = left @ (shrink * coefficient)
        leverage = (left.square() @ shrink + 1 / len(x)).clamp_max(1 - 1e-6)
        left_out = target - (target - fitted) / (1 - leverage)
        error = (target - left_out).square().mean().item()
        if error < best:
            best, chosen, honest = error, ridge, left_out
    return test @ (basis @ (root / (values + chosen) * coefficient)) - _threshold(honest, label)


def _threshold(scores: Tensor, label: Tensor) -> float:
    """The threshold that puts the most labels on the right side (1 above it); the middle one of equally good ones."""
    ordered, place = scores.sort()
    right = torch.cat([label.new_zeros(1), -label[place].cumsum(0)])
    cuts = (right == right.max()).nonzero()[:, 0]
    cut = int(cuts[len(cuts) // 2])
    low, high = ordered[max(cut - 1, 0)], ordered[min(cut, len(ordered) - 1)]
    return ((low + high) / 2).item()
