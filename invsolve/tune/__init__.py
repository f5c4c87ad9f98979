"""Settings found on tuning images: what `invsolve tune` does."""

from invsolve.tune.search import Search, Trial, tune

__all__ = ["Search", "Trial", "tune"]
