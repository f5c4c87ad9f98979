"""Published networks by name: downloaded once, checked against their cards, then read from the cache."""

from __future__ import annotations

from functools import partial
from typing import Any

from invsolve.core.prior import Prior
from invsolve.priors.loading.cards import card
from invsolve.priors.loading.hub import fetch

__all__ = ["ffhq256", "imagenet64", "imagenet128", "imagenet256", "imagenet256_cond", "imagenet512"]


def _published(name: str, *, mirror: str | None = None, offline: bool | None = None, **options: Any) -> Prior:
    from invsolve.priors.loading.files import load_path

    entry = card(name)
    prior = load_path(fetch(entry, mirror=mirror, offline=offline), **{**entry.options, **options})
    prior.traits = entry.traits
    return prior


ffhq256 = partial(_published, "ffhq256")
imagenet64 = partial(_published, "imagenet64")
imagenet128 = partial(_published, "imagenet128")
imagenet256 = partial(_published, "imagenet256")
imagenet256_cond = partial(_published, "imagenet256-cond")
imagenet512 = partial(_published, "imagenet512")
